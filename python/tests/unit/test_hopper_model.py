"""A decoder layer whose gemm add to the residual, against the adds_residual written out, and its fused MLP.

cuBLASLt and the kernels need a GPU (benchmarks/gpu/measure_gemm.py, test_hopper_fused.py): without one
gemm.py adds by itself, and gate and up are torch's here.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import attention, extension, fused, mlp, model

pytestmark = pytest.mark.slow

FP8 = torch.float8_e4m3fn
HIDDEN, WIDE = 96, 256
SCALE, WEIGHT_SCALE = 0.05, 0.5


def quantised(x: torch.Tensor, scale: float | torch.Tensor = SCALE) -> torch.Tensor:
    return (x.float() / scale).clamp(-448, 448).to(FP8)


class Linear:
    """vLLM's FP8 linear layer as far as the model asks it: quantise, then the extension's result."""

    def __init__(self, n: int, k: int, scale: float = SCALE) -> None:
        self.weight = torch.randn(n, k).to(FP8).t()
        self.input_scale, self.weight_scale = torch.tensor(scale), torch.tensor(WEIGHT_SCALE)
        self.quant_method = self.fp8_linear = self

    def quant_fp8(self, x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # vLLM pads few rows outside compiled code.
        rows = x.shape[0]
        padded = torch.zeros(max(rows, 17), x.shape[1], dtype=FP8)
        padded[:rows] = quantised(x, scale)
        return padded, scale

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        padded, scale = self.quant_fp8(x, self.input_scale)
        return extension.scaled_mm(
            None, A=padded, B=self.weight, out_dtype=torch.bfloat16, As=scale,
            Bs=self.weight_scale, bias=bias, output_shape=[x.shape[0], self.weight.shape[1]],
        )  # fmt: skip

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.apply(self, x), None

    def exactly(self, x: torch.Tensor) -> torch.Tensor:
        return (quantised(x, self.input_scale).float() * self.input_scale) @ (
            self.weight.float() * WEIGHT_SCALE
        )


def made(is_fused: bool, gate_up: Linear, down: Linear) -> mlp.MLP:
    """Without vLLM's own constructor, which wants its whole configuration."""
    found = object.__new__(mlp.MLP)
    torch.nn.Module.__init__(found)
    found.is_fused, found.gate_up_proj, found.down_proj, found.act_fn = is_fused, gate_up, down, activated
    return found


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
        adds_residual=True,
        input_layernorm=norm,
        post_attention_layernorm=norm,
        self_attn=SimpleNamespace(before_output=lambda positions, x: qkv(x)[0], o_proj=o),
        mlp=made(False, gate_up, down),
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


def gate_up_of_torch(
    x: torch.Tensor, w: torch.Tensor, x_scale: Any, w_scale: Any, out_scale: Any, out: torch.Tensor
) -> None:
    """fused.gate_up on a CPU."""
    rows = w.float()[fused.gate_up_row_order(w.shape[0]).argsort()]
    gate, up = (x.float() @ rows.t() * (x_scale * w_scale)).chunk(2, dim=-1)
    out.copy_((torch.nn.functional.silu(gate) * up / out_scale).clamp(-448, 448))


@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("rows", [3, 40])
def test_the_fused_mlp_gives_what_the_other_gives(
    rows: int, with_residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "gate_up", gate_up_of_torch)
    torch.manual_seed(0)
    # No scale stands for the other.
    gate_up, down = Linear(2 * WIDE, HIDDEN), Linear(HIDDEN, WIDE, 4 * SCALE)
    x, before = (torch.randn(rows, HIDDEN, dtype=torch.bfloat16) * size for size in (1, 30))
    residual = before if with_residual else None
    wanted = made(False, gate_up, down)(x, residual)
    gate_up.mlperf_row_order = fused.gate_up_row_order  # type: ignore[attr-defined]
    fused.reorder_rows(gate_up)
    found = made(True, gate_up, down)(x, residual)
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    result = wanted.float() - before.float() if with_residual else wanted.float()
    assert float(result.norm()) > float(before.norm()), "what the layer gives must weigh"
    # The other rounds to bf16 twice before it rounds to FP8.
    assert float((found.float() - wanted.float()).norm() / result.norm()) < 0.03


@pytest.mark.parametrize("ordered", [False, True])
def test_rows_of_a_fused_layer_alone_are_put_in_order(ordered: bool) -> None:
    gate_up = Linear(2 * WIDE, HIDDEN)
    if ordered:
        gate_up.mlperf_row_order = fused.gate_up_row_order  # type: ignore[attr-defined]
    weight, before = gate_up.weight, gate_up.weight.float()
    fused.reorder_rows(gate_up)
    wanted = before[:, fused.gate_up_row_order(2 * WIDE)] if ordered else before
    assert gate_up.weight is weight and torch.equal(weight.float(), wanted)


@pytest.mark.parametrize("rows", [3, 40])
def test_q_k_and_v_are_left_to_one_kernel(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    qkv_proj, hidden = Linear(3 * HIDDEN, HIDDEN), torch.randn(rows, HIDDEN, dtype=torch.bfloat16)
    positions = torch.arange(rows)

    def run_fused(
        operands: fused.GemmOperands, buffer: Any, at: Any, out: torch.Tensor, context: Any
    ) -> None:
        x, w, x_scale, w_scale = operands
        assert buffer.shape == (rows, 3 * HIDDEN) and torch.equal(at, positions) and context[0] == "step"
        out.copy_(((x.float() * x_scale) @ (w.float() * w_scale).t())[:, :HIDDEN])

    whole: Any = SimpleNamespace(
        is_fast=True,
        is_fused=True,
        q_size=HIDDEN,
        qkv_proj=qkv_proj,
        attn=SimpleNamespace(layer_name="first"),
    )
    layer = SimpleNamespace(mlperf=SimpleNamespace(run_fused=run_fused))
    for step, wanted in (("step", qkv_proj.exactly(hidden)[:, :HIDDEN]), (None, torch.zeros(rows, HIDDEN))):
        context = (step, layer, None, None)
        monkeypatch.setattr(attention, "get_attention_context", lambda name, found=context: found)
        out = model.Attention.before_output(whole, positions, hidden)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out.float(), wanted, rtol=2**-7, atol=1e-3)


KERNEL = object.__new__(mlp.PerTensorTorchFP8ScaledMMLinearKernel)
DYNAMIC = {"quant_method": SimpleNamespace(fp8_linear=KERNEL, act_q_static=False)}


def linear(**changes: Any) -> SimpleNamespace:
    whole = {
        "quant_method": SimpleNamespace(fp8_linear=KERNEL, act_q_static=True),
        "params_dtype": torch.bfloat16,
        "tp_size": 1,
        "bias": None,
        "input_size": 4096,
    }
    return SimpleNamespace(**{**whole, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"quant_method": SimpleNamespace()},
        {"quant_method": SimpleNamespace(fp8_linear=object(), act_q_static=True)},
        # Another quantisation that takes the same kernel.
        {"quant_method": SimpleNamespace(fp8_linear=KERNEL)},
        DYNAMIC,
        {"params_dtype": torch.float32},
        {"tp_size": 2},
        {"bias": torch.zeros(1)},
    ],
)
def test_other_linear_layers_leave_the_sum_to_the_norm(changes: dict[str, Any]) -> None:
    assert mlp.static_fp8(linear())
    assert not mlp.static_fp8(linear(**changes))


@pytest.mark.parametrize(
    ("fits", "capability", "gate_up", "down"),
    [
        (True, (9, 0), {}, {}),
        (False, None, {}, {}),
        (False, (8, 9), {}, {}),
        (False, (10, 0), {}, {}),
        (False, (9, 0), DYNAMIC, {}),
        (False, (9, 0), {}, DYNAMIC),
        (False, (9, 0), {"input_size": 4096 + 64}, {}),
        (False, (9, 0), {}, {"input_size": 14336 + 64}),
    ],
)
def test_where_an_mlp_is_fused(
    fits: bool,
    capability: tuple[int, int] | None,
    gate_up: dict[str, Any],
    down: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    layers = {"gate_up_proj": linear(**gate_up), "down_proj": linear(**{"input_size": 14336, **down})}
    assert mlp.fits(SimpleNamespace(**layers)) == fits


@pytest.mark.parametrize("with_residual", [False, True])
def test_the_last_layer_takes_the_sum_from_either_kind_of_layer(with_residual: bool) -> None:
    """What leaves the model: the last layer's attention, and everything that was added up before it."""
    torch.manual_seed(0)
    before, more = (torch.randn(5, HIDDEN, dtype=torch.bfloat16) for _ in range(2))

    def last_norm(x: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
        return norm(x) if residual is None else (norm(x + residual), x + residual)

    attention = SimpleNamespace(before_output=lambda positions, x: 2 * x)
    layers = [
        lambda positions, hidden, residual: (hidden + more, None) if with_residual else (more, hidden),
        SimpleNamespace(input_layernorm=last_norm, self_attn=attention),
    ]
    whole: Any = SimpleNamespace(layers=layers)
    states = model.Model.forward(whole, None, torch.arange(5), None, before)
    attended, residual = states.chunk(2, dim=-1)  # attention is as wide as the residual here
    assert torch.equal(residual, before + more)
    assert torch.equal(attended, 2 * norm(before + more))


@pytest.mark.parametrize("attended", [HIDDEN // 2, HIDDEN, 2 * HIDDEN])
def test_what_leaves_the_model_is_split_by_its_widths(attended: int) -> None:
    """Half the heads of two GPUs each, as many as hidden, or more: the residual is whole in each."""
    torch.manual_seed(0)
    weight, more = torch.randn(HIDDEN, attended), torch.randn(HIDDEN, HIDDEN)
    attention = SimpleNamespace(
        q_size=attended,
        before_output=lambda positions, x: x.repeat(1, 2)[:, :attended],
        o_proj=lambda x: (x @ weight.t(), None),
    )

    def add_norm(x: torch.Tensor, residual: torch.Tensor | None = None) -> Any:
        return 2 * x if residual is None else (2 * (x + residual), x + residual)

    layer = SimpleNamespace(
        input_layernorm=add_norm,
        post_attention_layernorm=add_norm,
        self_attn=attention,
        mlp=lambda x: x @ more.t(),
    )
    # A layer before it that changes nothing and has nothing to be asked for.
    layers = [lambda positions, hidden, residual: (hidden, residual), layer]
    whole: Any = SimpleNamespace(layers=layers, norm=add_norm)
    hidden = torch.randn(5, HIDDEN)
    states = model.Model.forward(whole, None, torch.arange(5), None, hidden)
    assert states.shape == (5, attended + HIDDEN)
    # Only some tokens' logits are wanted.
    found = model.Model.last_layer(whole, states[[1, 4]])
    before = (2 * hidden).repeat(1, 2)[:, :attended] @ weight.t() + hidden
    wanted = 2 * ((2 * before) @ more.t() + before)[[1, 4]]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-2)


def fast_layer(**changes: Any) -> Any:
    """What vLLM makes of Llama-3.1-8B's attention with an 8-bit cache, as far as it is asked."""
    core = {
        "kv_cache_dtype": "fp8",
        "attn_backend": SimpleNamespace(get_name=lambda: changes.get("backend", "FLASH_ATTN")),
        "sliding_window": None,
    }
    rotary = {"is_neox_style": True, "rotary_dim": 128}
    layer = {"num_heads": 32, "num_kv_heads": 8, "head_dim": 128}
    for part in (core, rotary, layer):
        part.update({name: value for name, value in changes.items() if name in part})
    return SimpleNamespace(
        attn=SimpleNamespace(**core),
        rotary_emb=SimpleNamespace(**rotary),
        qkv_proj=SimpleNamespace(params_dtype=changes.get("dtype", torch.bfloat16)),
        **layer,
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"kv_cache_dtype": "fp8_e4m3"}, True),
        # Two, four and eight GPUs share the heads.
        ({"num_heads": 16, "num_kv_heads": 4}, True),
        ({"num_heads": 8, "num_kv_heads": 2}, True),
        ({"num_heads": 4, "num_kv_heads": 1}, True),
        ({"kv_cache_dtype": "auto"}, False),
        ({"kv_cache_dtype": "fp8_e5m2"}, False),
        ({"backend": "FLASHINFER"}, False),
        ({"sliding_window": 4096}, False),
        ({"is_neox_style": False}, False),
        ({"rotary_dim": 64}, False),
        ({"head_dim": 64, "rotary_dim": 64}, False),
        ({"num_heads": 32, "num_kv_heads": 2}, False),
        ({"num_heads": 12, "num_kv_heads": 8}, False),
        ({"dtype": torch.float16}, False),
        ({"dtype": torch.float32}, False),
    ],
)
def test_which_attention_is_fast(
    changes: dict[str, Any], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "on_hopper", lambda: True)
    assert model.fast_attention(fast_layer(**changes)) is expected
    monkeypatch.setattr(model, "on_hopper", lambda: False)
    assert not model.fast_attention(fast_layer(**changes))
