"""Weight matrices to FP8, shard by shard, so that a large model needs little memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..sources.fetch.http import file_digest
from ..sources.model import checkpoint
from ..sources.model.shards import ShardWriter

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max
LINEAR = re.compile(r"(?P<layer>.*\.layers\.\d+)\.(?P<block>self_attn|mlp)\.(?P<name>\w+_proj)\.weight")
# vLLM joins these into one product, which has one scale: they share theirs from the start.
JOINED = {
    "q_proj": ("q_proj", "k_proj", "v_proj"),
    "k_proj": ("q_proj", "k_proj", "v_proj"),
    "v_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_proj": ("gate_proj", "up_proj"),
    "up_proj": ("gate_proj", "up_proj"),
}


def sha256(path: Path) -> str:
    return file_digest(path, "sha256")


class Source:
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
        found: torch.Tensor = self._files[name].get_tensor(name)
        return found


def weight_scale(source: Source, name: str) -> float:
    """So that the largest value of a matrix, and of those joined with it, is the largest of E4M3."""
    found = LINEAR.fullmatch(name)
    assert found
    parts = JOINED.get(found["name"], (found["name"],))
    names = [f"{found['layer']}.{found['block']}.{part}.weight" for part in parts]
    highest = max(float(source[part].abs().max()) for part in names)
    return float(max(highest, 1e-12) / FP8_MAX)


def to_fp8(matrix: torch.Tensor, scale: float) -> torch.Tensor:
    """Rounded to the nearest; nothing lies outside, by the choice of the scale."""
    return (matrix.float() / scale).clamp(-FP8_MAX, FP8_MAX).to(FP8)


def write(source: Path, dest: Path, scales: Mapping[str, float], tell: Callable[[str], None]) -> None:
    """All tensors into shards of `dest`, with an index. `scales`: further scalars by full name."""
    tensors, writer = Source(source), ShardWriter(dest)
    for number, name in enumerate(tensors.names):
        tensor = tensors[name]
        if LINEAR.fullmatch(name):
            scale = weight_scale(tensors, name)
            tensor = to_fp8(tensor, scale)
            writer.add(name.removesuffix("weight") + "weight_scale", torch.tensor(scale))
        if writer.add(name, tensor):
            tell(f"{number + 1} of {len(tensors.names)} tensors")
    for name, value in scales.items():
        writer.add(name, torch.tensor(value))
    writer.close()
