"""FP8 (E4M3) weights with one scale per matrix: the same bits from `quantize` and from vLLM's loading."""

from __future__ import annotations

import torch

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max
# vLLM joins these into one GEMM, which has one scale: they share theirs from the start.
JOINED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
LEAST = 1e-12


def scale_of(largest: torch.Tensor) -> torch.Tensor:
    """The scale (float32) of matrices whose largest absolute value is `largest`: it becomes E4M3's own."""
    largest = largest.float().clamp(min=LEAST)
    # CUDA divides by a Python number as a product with its reciprocal, which rounds otherwise.
    return largest / torch.full_like(largest, FP8_MAX)


def to_fp8(matrix: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Rounded to the nearest. `scale` is on the same device, and so chosen that nothing lies outside."""
    return (matrix.float() / scale).clamp_(-FP8_MAX, FP8_MAX).to(FP8)
