"""Llama's MLP for vLLM: with static FP8 scales one kernel gives its last product's input (fused.py)."""

from __future__ import annotations

from typing import Any

import torch
from vllm.model_executor.kernels.linear.scaled_mm.pytorch import PerTensorTorchFP8ScaledMMLinearKernel
from vllm.model_executor.models import llama

from . import fused, products


def static_fp8(linear: Any) -> bool:
    """Whether products.py computes a layer: FP8 by static scales to bf16, whole on one GPU."""
    kernel = getattr(linear.quant_method, "fp8_linear", None)
    return (
        isinstance(kernel, PerTensorTorchFP8ScaledMMLinearKernel)
        and linear.quant_method.act_q_static
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
        and torch.cuda.is_available()
        and torch.cuda.get_device_capability() == (9, 0)
    )


class MLP(llama.LlamaMLP):  # type: ignore[misc]
    """vLLM's; where `static_fp8` holds for down_proj, `residual` can be added to the result."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_fused = fits(self)
        if self.is_fused:
            self.gate_up_proj.mlperf_order = fused.gate_up_order

    def forward(self, x: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        first, last = self.gate_up_proj, self.down_proj
        if self.is_fused:
            given, scale = first.quant_method.fp8_linear.quant_fp8(x, first.input_scale)
            scales = (scale.view(1), first.weight_scale.view(1), last.input_scale.view(1))
            # Outside compiled code vLLM pads short inputs.
            given = given.narrow(0, 0, x.shape[0])
            activated = torch.ops.vllm.mlperf_gate_up(given, first.weight.t(), *scales)
            factors = (activated, last.weight.t(), scales[2], last.weight_scale.view(1))
            if residual is not None:
                return products.product_sum(*factors, residual)
            return products.product(*factors)
        if residual is None:
            found: torch.Tensor = super().forward(x)
        else:
            wide, _ = first(x)
            # A `bias` with a row for each of the product's; see extension.py.
            found = last.quant_method.apply(last, self.act_fn(wide), residual)
        return found
