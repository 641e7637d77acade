"""vLLM's `worker_extension_cls`: importing this changes the worker's process, before the model is built."""

from __future__ import annotations

import math
from typing import Any

import torch
from vllm.model_executor.kernels import linear
from vllm.model_executor.kernels.linear.scaled_mm import pytorch
from vllm.model_executor.models import ModelRegistry
from vllm.platforms import PlatformEnum

from . import attention, model


def scaled_mm(
    self: Any,
    *,
    A: torch.Tensor,
    B: torch.Tensor,
    out_dtype: torch.dtype,
    As: torch.Tensor,
    Bs: torch.Tensor,
    bias: torch.Tensor | None,
    output_shape: list[int],
) -> torch.Tensor:
    """vLLM's per-tensor FP8 product with the tensor cores' own accumulation, as its CUTLASS kernels have it.

    Without it cuBLASLt adds every few partial sums in ordinary registers, which costs time.
    """
    output = torch._scaled_mm(
        A,
        B,
        out_dtype=out_dtype,
        scale_a=As.view(1) if As.dim() == 0 else As,
        scale_b=Bs.view(1) if Bs.dim() == 0 else Bs,
        bias=bias,
        use_fast_accum=True,
    )
    # Outside compiled code vLLM pads short inputs.
    return output.narrow(0, 0, math.prod(output_shape[:-1])).view(*output_shape)


def install() -> None:
    attention.install()
    ModelRegistry.register_model("LlamaForCausalLM", model.LlamaForCausalLM)
    products = pytorch.PerTensorTorchFP8ScaledMMLinearKernel
    products.apply_scaled_mm = scaled_mm
    # First choice where scales are static; with dynamic ones it does not apply and vLLM's order stands.
    known = linear._POSSIBLE_FP8_KERNELS[PlatformEnum.CUDA]
    linear._POSSIBLE_FP8_KERNELS[PlatformEnum.CUDA] = [products, *(k for k in known if k is not products)]


install()


class Extension:
    """Mixed into vLLM's worker; adds nothing itself."""
