"""A decoder layer whose products add to the residual, against the sums written out.

cuBLASLt needs a GPU (benchmarks/gpu/measure_products.py): without one products.py adds by itself.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import extension, model

HIDDEN, WIDE = 96, 160
SCALE = 0.05


def quantised(x: torch.Tensor) -> torch.Tensor:
    return (x.float() / SCALE).clamp(-448, 448).to(torch.float8_e4m3fn)


class Linear:
    """vLLM's FP8 linear layer as far as the model asks it: quantise, then the extension's product."""

    def __init__(self, n: int, k: int) -> None:
        self.weight = torch.randn(n, k).to(torch.float8_e4m3fn)
        self.quant_method = self

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        # vLLM pads few rows outside compiled code.
        rows = x.shape[0]
        padded = torch.zeros(max(rows, 17), x.shape[1], dtype=torch.float8_e4m3fn)
        padded[:rows] = quantised(x)
        return extension.scaled_mm(
            None, A=padded, B=self.weight.t(), out_dtype=torch.bfloat16, As=torch.tensor(SCALE),
            Bs=torch.tensor(1.0), bias=bias, output_shape=[rows, self.weight.shape[0]],
        )  # fmt: skip

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.apply(self, x), None

    def exactly(self, x: torch.Tensor) -> torch.Tensor:
        return (quantised(x).float() * SCALE) @ self.weight.float().t()


def norm(x: torch.Tensor) -> torch.Tensor:
    return (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)).bfloat16()


def activated(x: torch.Tensor) -> torch.Tensor:
    gate, up = x.float().chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * up).bfloat16()


@pytest.mark.parametrize("rows", [3, 40])
def test_what_is_added_to_the_residual(rows: int) -> None:
    torch.manual_seed(0)
    qkv, o, gate_up, down = (
        Linear(n, k) for n, k in ((HIDDEN, HIDDEN), (HIDDEN, HIDDEN), (2 * WIDE, HIDDEN), (HIDDEN, WIDE))
    )
    layer: Any = SimpleNamespace(
        sums=True,
        input_layernorm=norm,
        post_attention_layernorm=norm,
        self_attn=SimpleNamespace(before_output=lambda positions, x: qkv(x)[0], o_proj=o),
        mlp=SimpleNamespace(gate_up_proj=gate_up, act_fn=activated, down_proj=down),
    )
    before = torch.randn(rows, HIDDEN, dtype=torch.bfloat16) * 30
    after, residual = model.DecoderLayer.forward(layer, torch.arange(rows), before, None)
    middle = before.float() + o.exactly(qkv(norm(before))[0])
    wanted = middle + down.exactly(activated(gate_up(norm(middle.bfloat16()))[0]))
    assert residual is None and after.dtype == torch.bfloat16 and after.shape == before.shape
    added = wanted - before.float()
    assert float(added.norm()) > float(before.norm()) / 10, "what is added must weigh"
    # Rounded twice, an input here and there falls to the next FP8 value.
    assert float((after.float() - wanted).norm() / added.norm()) < 0.05


def linear(**changes: Any) -> SimpleNamespace:
    kernel = object.__new__(model.PerTensorTorchFP8ScaledMMLinearKernel)
    whole = {
        "quant_method": SimpleNamespace(fp8_linear=kernel),
        "params_dtype": torch.bfloat16,
        "tp_size": 1,
        "bias": None,
    }
    return SimpleNamespace(**{**whole, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"quant_method": SimpleNamespace()},
        {"quant_method": SimpleNamespace(fp8_linear=object())},
        {"params_dtype": torch.float32},
        {"tp_size": 2},
        {"bias": torch.zeros(1)},
    ],
)
def test_other_products_leave_the_sum_to_the_norm(changes: dict[str, Any]) -> None:
    assert model.sums(linear())
    assert not model.sums(linear(**changes))


@pytest.mark.parametrize("summed", [False, True])
def test_the_last_layer_takes_the_sum_from_either_kind_of_layer(summed: bool) -> None:
    """What leaves the model: the last layer's attention, and everything that was added up before it."""
    torch.manual_seed(0)
    before, more = (torch.randn(5, HIDDEN, dtype=torch.bfloat16) for _ in range(2))

    def last_norm(x: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
        return norm(x) if residual is None else (norm(x + residual), x + residual)

    attention = SimpleNamespace(before_output=lambda positions, x: 2 * x)
    layers = [
        lambda positions, hidden, residual: (hidden + more, None) if summed else (more, hidden),
        SimpleNamespace(input_layernorm=last_norm, self_attn=attention),
    ]
    whole: Any = SimpleNamespace(layers=layers)
    states = model.Model.forward(whole, None, torch.arange(5), None, before)
    attended, residual = states.chunk(2, dim=-1)
    assert torch.equal(residual, before + more)
    assert torch.equal(attended, 2 * norm(before + more))
