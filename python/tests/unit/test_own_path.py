"""While a model is compared, its modules are of vLLM's classes, on weights in the checkpoint's order."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import attention, extension, fused, mlp, model, own_path
from mlperf_llama.engine.hopper.compat import PerTensorTorchFP8ScaledMMLinearKernel, flash_attn, llama

pytestmark = pytest.mark.slow

ROWS, INPUTS = 512, 128


def bare(kind: type[torch.nn.Module], **children: torch.nn.Module) -> torch.nn.Module:
    """Without vLLM's own constructors, which want its whole configuration."""
    found = object.__new__(kind)
    torch.nn.Module.__init__(found)
    for name, child in children.items():
        setattr(found, name, child)
    return found


def linear(order: object = None) -> torch.nn.Module:
    found = torch.nn.Module()
    weight = torch.randint(0, 256, (ROWS, INPUTS), dtype=torch.uint8).view(torch.float8_e4m3fn)
    found.weight = weight.t()
    if order is not None:
        found.mlperf_row_order = order
        fused.reorder_rows(found)
    return found


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    layer = bare(
        model.DecoderLayer,
        self_attn=bare(model.Attention, qkv_proj=linear(fused.head_row_order), o_proj=linear()),
        mlp=bare(mlp.MLP, gate_up_proj=linear(fused.gate_up_row_order), down_proj=linear()),
    )
    return bare(model.LlamaForCausalLM, model=bare(model.Model, layers=torch.nn.ModuleList([layer])))


def state(network: torch.nn.Module) -> tuple[list[type], list[torch.Tensor], object]:
    weights = [m.weight.view(torch.uint8).clone() for m in network.modules() if hasattr(m, "weight")]
    kernel = PerTensorTorchFP8ScaledMMLinearKernel
    return [type(module) for module in network.modules()], weights, kernel.apply_scaled_mm


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("broken", [False, True])
def test_all_is_as_before_behind_it(network: torch.nn.Module, broken: bool) -> None:
    classes, weights, scaled_mm = state(network)
    assert scaled_mm is extension.scaled_mm
    try:
        with own_path.own_path(network):
            inside, own_weights, own_scaled_mm = state(network)
            assert not same(weights, own_weights)
            if broken:
                raise RuntimeError
    except RuntimeError:
        pass
    assert inside[:2] == [llama.LlamaForCausalLM, llama.LlamaModel]
    assert {llama.LlamaDecoderLayer, llama.LlamaAttention} <= set(inside)
    assert not set(inside) & {model.Attention, model.DecoderLayer, model.Model, mlp.MLP}
    assert own_scaled_mm.__module__.startswith("vllm."), "vLLM's own product"
    after = state(network)
    assert after[0] == classes and same(after[1], weights) and after[2] is scaled_mm


def test_rows_are_the_checkpoint_s_inside() -> None:
    torch.manual_seed(0)
    wanted = linear()
    torch.manual_seed(0)
    network = torch.nn.ModuleList([linear(fused.head_row_order)])
    assert not torch.equal(network[0].weight.view(torch.uint8), wanted.weight.view(torch.uint8))
    with own_path.own_path(network):
        assert torch.equal(network[0].weight.view(torch.uint8), wanted.weight.view(torch.uint8))


def test_vllm_s_own_metadata_knows_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []
    own = flash_attn.FlashAttentionMetadataBuilder
    monkeypatch.setattr(own, "build", lambda self, *given: asked.append(given))
    own_path.build(object.__new__(attention.Builder), "step")
    assert asked == [(0, "step")], "with its own plan for FlashAttention"
    assert own_path.build(SimpleNamespace(build=lambda *given: given), "step") == (0, "step")
