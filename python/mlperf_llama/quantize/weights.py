"""Weight matrices to FP8, shard by shard, so that a large model needs little memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..sources.model import checkpoint
from ..sources.model.shards import ShardWriter

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max
LINEAR = re.compile(r"(?P<layer>.*\.layers\.\d+)\.(?P<block>self_attn|mlp)\.(?P<name>\w+_proj)\.weight")
# vLLM joins these into one GEMM, which has one scale: they share theirs from the start.
JOINED = {
    "q_proj": ("q_proj", "k_proj", "v_proj"),
    "k_proj": ("q_proj", "k_proj", "v_proj"),
    "v_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_proj": ("gate_proj", "up_proj"),
    "up_proj": ("gate_proj", "up_proj"),
}


class Tensors:
    """The tensors of a checkpoint by name, read when asked for."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Any] = {}
        for shard in checkpoint.shard_names(folder):
            opened: Any = safe_open(folder / shard, framework="pt")
            self._files |= dict.fromkeys(opened.keys(), opened)

    @property
    def names(self) -> list[str]:
        return sorted(self._files)

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor


def weight_scale(tensors: Tensors, name: str) -> float:
    """So that the largest value of a matrix, and of those joined with it, is the largest of E4M3."""
    match = LINEAR.fullmatch(name)
    assert match
    joined = JOINED.get(match["name"], (match["name"],))
    names = [f"{match['layer']}.{match['block']}.{part}.weight" for part in joined]
    highest = max(float(tensors[part].abs().max()) for part in names)
    return float(max(highest, 1e-12) / FP8_MAX)


def to_fp8(matrix: torch.Tensor, scale: float) -> torch.Tensor:
    """Rounded to the nearest; nothing lies outside, by the choice of the scale."""
    return (matrix.float() / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8)


def write(source: Path, dest: Path, scales: Mapping[str, float], progress: Callable[[str], None]) -> None:
    """All tensors into shards of `dest`, with an index. `scales`: further scalars by full name."""
    tensors, writer = Tensors(source), ShardWriter(dest)
    for number, name in enumerate(tensors.names):
        tensor = tensors[name]
        if LINEAR.fullmatch(name):
            scale = weight_scale(tensors, name)
            tensor = to_fp8(tensor, scale)
            writer.add(name.removesuffix("weight") + "weight_scale", torch.tensor(scale))
        if writer.add(name, tensor):
            progress(f"{number + 1} of {len(tensors.names)} tensors")
    for name, value in scales.items():
        writer.add(name, torch.tensor(value))
    writer.close()
