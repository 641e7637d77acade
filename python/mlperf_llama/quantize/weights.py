"""Weight matrices to FP8, shard by shard, so that a large model needs little memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..engine.fp8 import JOINED, scale_of, to_fp8
from ..sources.model import checkpoint
from ..sources.model.shards import ShardWriter

LINEAR = re.compile(r"(?P<layer>.*\.layers\.\d+)\.(?P<block>self_attn|mlp)\.(?P<name>\w+_proj)\.weight")
# By a matrix's name: all that share its scale.
TOGETHER = {part: parts for parts in JOINED.values() for part in parts}


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


def weight_scale(tensors: Tensors, name: str) -> torch.Tensor:
    """So that the largest value of a matrix, and of those joined with it, is the largest of E4M3."""
    match = LINEAR.fullmatch(name)
    assert match
    together = TOGETHER.get(match["name"], (match["name"],))
    names = [f"{match['layer']}.{match['block']}.{part}.weight" for part in together]
    return scale_of(torch.stack([tensors[part].abs().max() for part in names]).max())


def write(source: Path, dest: Path, scales: Mapping[str, float], progress: Callable[[str], None]) -> None:
    """All tensors into shards of `dest`, with an index. `scales`: further scalars by full name."""
    tensors, writer = Tensors(source), ShardWriter(dest)
    for number, name in enumerate(tensors.names):
        tensor = tensors[name]
        if LINEAR.fullmatch(name):
            scale = weight_scale(tensors, name)
            tensor = to_fp8(tensor, scale)
            writer.add(name.removesuffix("weight") + "weight_scale", scale)
        if writer.add(name, tensor):
            progress(f"{number + 1} of {len(tensors.names)} tensors")
    for name, value in scales.items():
        writer.add(name, torch.tensor(value))
    writer.close()
