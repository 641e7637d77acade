"""INT8 while loading: what a matrix becomes, and that vLLM knows the name."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm")

from mlperf_llama.engine import int8  # noqa: E402

pytestmark = pytest.mark.slow


def test_a_matrix_keeps_its_values_to_half_a_step() -> None:
    torch.manual_seed(0)
    weight = (torch.randn(48, 96) * torch.logspace(-3, 2, 48)[:, None]).to(torch.bfloat16)
    values, scale = int8.to_int8(weight)
    assert (values.dtype, scale.dtype, tuple(scale.shape)) == (torch.int8, torch.float32, (48, 1))
    assert (values.int().abs().amax(dim=1) == 127).all()
    assert ((values * scale - weight.float()).abs() <= 0.501 * scale).all()


def test_a_row_of_zeros_stays_zero() -> None:
    values, scale = int8.to_int8(torch.zeros(2, 4, dtype=torch.bfloat16))
    assert not values.any() and (scale > 0).all()


def test_vllm_knows_it_by_name() -> None:
    from vllm.model_executor.layers.quantization import get_quantization_config

    assert get_quantization_config("int8") is int8.Int8
    assert int8.Int8().get_quant_method(torch.nn.Identity(), "lm_head") is None
