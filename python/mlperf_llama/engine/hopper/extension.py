"""vLLM's `worker_extension_cls`: importing this changes the worker's process, before the model is built."""

from __future__ import annotations

import math
from typing import Any

import torch

from . import attention, fused, gemm, mlp, model, self_check
from .compat import ModelRegistry, PerTensorTorchFP8ScaledMMLinearKernel, PlatformEnum, linear, llama


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
    """vLLM's per-tensor FP8 GEMM, by gemm.py where it gives bf16. A `bias` with rows is model.py's."""
    scale_a, scale_w = (scale.view(1) if scale.dim() == 0 else scale for scale in (As, Bs))
    if bias is not None and bias.dim() == 2:
        output = gemm.gemm_residual(A.narrow(0, 0, bias.shape[0]), B.t(), scale_a, scale_w, bias)
    elif bias is None and out_dtype == torch.bfloat16:
        output = gemm.gemm(A, B.t(), scale_a, scale_w)
    else:
        options = {"scale_a": scale_a, "scale_b": scale_w, "bias": bias, "use_fast_accum": True}
        output = torch._scaled_mm(A, B, out_dtype=out_dtype, **options)
    # Outside compiled code vLLM pads short inputs.
    return output.narrow(0, 0, math.prod(output_shape[:-1])).view(*output_shape)


def install() -> None:
    attention.install()
    ModelRegistry.register_model("LlamaForCausalLM", model.LlamaForCausalLM)
    gemm.install()
    fused.install()
    llama.LlamaMLP = mlp.MLP
    kernel = PerTensorTorchFP8ScaledMMLinearKernel
    kernel.apply_scaled_mm = scaled_mm
    kernel.process_weights_after_loading = lambda self, layer: fused.reorder_rows(layer)
    # First choice where scales are static; with dynamic ones it does not apply and vLLM's order stands.
    known = linear._POSSIBLE_FP8_KERNELS[PlatformEnum.CUDA]
    linear._POSSIBLE_FP8_KERNELS[PlatformEnum.CUDA] = [kernel, *(k for k in known if k is not kernel)]


install()


class Extension:
    """Mixed into vLLM's worker."""

    def mlperf_self_check(self: Any) -> dict[str, float] | None:
        """See self_check.py; None in a worker that has no whole logits."""
        figures: dict[str, float] | None = self_check.run(self.model_runner, self.vllm_config)
        return figures
