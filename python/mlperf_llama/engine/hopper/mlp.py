"""Llama's MLP for vLLM: with static FP8 scales one kernel gives its last GEMM's input (fused.py)."""

from __future__ import annotations

from typing import Any

import torch

from . import fused, gemm
from .compat import PerTensorTorchFP8ScaledMMLinearKernel, llama
from .kernels import on_hopper


def static_fp8(linear: Any) -> bool:
    """Whether gemm.py computes a layer: FP8 by static scales to bf16, whole on one GPU."""
    kernel = getattr(linear.quant_method, "fp8_linear", None)
    return (
        isinstance(kernel, PerTensorTorchFP8ScaledMMLinearKernel)
        and getattr(linear.quant_method, "act_q_static", False)
        and linear.params_dtype == torch.bfloat16
        and linear.tp_size == 1
        and linear.bias is None
    )


def fits(mlp: Any) -> bool:
    """Whether gate_up.cu serves a layer of vLLM's LlamaMLP."""
    width, depth = mlp.down_proj.input_size, mlp.gate_up_proj.input_size
    return (
        static_fp8(mlp.gate_up_proj)
        and static_fp8(mlp.down_proj)
        and fused.supported(2 * width, depth)
        and on_hopper()
    )


def operands(linear: Any, x: torch.Tensor) -> fused.GemmOperands:
    """What a layer of `static_fp8` multiplies for `x` [tokens, inputs]."""
    quantised, scale = linear.quant_method.fp8_linear.quant_fp8(x, linear.input_scale)
    # Outside compiled code vLLM pads short inputs.
    quantised = quantised.narrow(0, 0, x.shape[0])
    return quantised, linear.weight.t(), scale.view(1), linear.weight_scale.view(1)


class MLP(llama.LlamaMLP):  # type: ignore[misc]
    """vLLM's; where `static_fp8` holds for down_proj, `residual` can be added to the result."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_fused = fits(self)
        if self.is_fused:
            self.gate_up_proj.mlperf_row_order = fused.gate_up_row_order

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        first, last = self.gate_up_proj, self.down_proj
        if self.is_fused:
            scale = last.input_scale.view(1)
            activated = torch.ops.vllm.mlperf_gate_up(*operands(first, x), scale)
            inputs = (activated, last.weight.t(), scale, last.weight_scale.view(1))
            if residual is not None:
                return gemm.gemm_residual(*inputs, residual)
            return gemm.gemm(*inputs)
        if residual is None:
            out: torch.Tensor = super().forward(x)
        else:
            wide, _ = first(x)
            # A `bias` with as many rows as the result; see extension.py.
            out = last.quant_method.apply(last, self.act_fn(wide), residual)
        return out
