"""Writes a checkpoint's tensors into safetensors files of a few GiB, with the index that loaders read."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import checkpoint

SHARD_BYTES = 4 * 2**30


class ShardWriter:
    """Takes tensors one by one, so that no more than one shard of them is in memory."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._folder, self._limit = folder, shard_bytes
        self._batch: dict[str, torch.Tensor] = {}
        self._shard_of: dict[str, int] = {}
        self._shards = 0

    def add(self, name: str, tensor: torch.Tensor) -> bool:
        """Keep a tensor; whether this completed a shard."""
        self._batch[name] = tensor.cpu().contiguous()
        full = bool(sum(t.nbytes for t in self._batch.values()) >= self._limit)
        if full:
            self._flush()
        return full

    def close(self) -> None:
        """Write the rest, give the shards their final names and write the index."""
        self._flush()
        names = {n: f"model-{n:05d}-of-{self._shards:05d}.safetensors" for n in range(1, self._shards + 1)}
        if self._shards == 1:
            names[1] = "model.safetensors"
        for number, name in names.items():
            self._temporary(number).rename(self._folder / name)
            # safetensors are written for the owner alone.
            (self._folder / name).chmod(0o644)
        if self._shards > 1:
            weight_map = {tensor: names[number] for tensor, number in sorted(self._shard_of.items())}
            text = json.dumps({"metadata": {}, "weight_map": weight_map}, indent=1)
            (self._folder / checkpoint.INDEX).write_text(text + "\n", encoding="utf-8")

    def _flush(self) -> None:
        if not self._batch:
            return
        self._shards += 1
        save_file(self._batch, self._temporary(self._shards), metadata={"format": "pt"})
        self._shard_of.update(dict.fromkeys(self._batch, self._shards))
        self._batch.clear()

    def _temporary(self, number: int) -> Path:
        return self._folder / f"{number}.safetensors"
