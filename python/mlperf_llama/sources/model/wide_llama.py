"""A small Llama embedded in the shape of a larger one: the same function, every matrix dense.

With h, H the small and the large hidden size, the residual x of the small model becomes x S / sqrt(h). S [h,
H] holds rows of a Hadamard matrix with random signs in its columns, so that S S^T = H I, and the mean square
of the residual, by which the norms divide, stays what it was. A matrix that reads the residual becomes W S
sqrt(h) / H, one that adds to it S^T W / sqrt(h). The norms' gains move into the matrices behind them.

- Attention: each new head is a copy of an old one, and what the copies add has shares that sum to one. A
  pair of coordinates that rotates with an old frequency takes the new pair of that frequency, turned by a
  random angle in q and k alike. The other pairs of k are random, those of q zero. v is turned by a Hadamard
  matrix.
- MLP: each new neuron is a copy of an old one, up and down rescaled by a power of two, shares as above.
- Layers beyond the old ones repeat old layers with shares that sum to zero: they add nothing.
- Vocabulary: rows of the embedding repeat. A new row of the output matrix lies between two old ones, so that
  its logit is never the largest.

The same bits come out on every CPU and GPU (wide_numbers.py).
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from ...records.files import read_object
from ...rules import MODEL_SHAPE, ModelShape
from . import checkpoint, shape
from .shards import ShardWriter
from .wide_numbers import (
    ANGLES,
    HEADS,
    NEURONS,
    SCALES,
    SHARES,
    TURN,
    UNUSED,
    VOCABULARY,
    Array,
    draw,
    exact,
    exponent,
    fractions,
    hadamard,
    order,
    shares,
)


class Embedding:
    """Small tensors to large ones. `device`: where the products are computed."""

    def __init__(self, small: ModelShape, large: ModelShape, device: str) -> None:
        _check(small, large)
        self.small, self.large, self.device = small, large, device
        self._residual = hadamard(small.hidden, large.hidden).to(device)

    def reads(self, w: torch.Tensor, gain: torch.Tensor | None = None) -> torch.Tensor:
        """A matrix [n, h] that reads the residual, behind a norm with `gain`: [n, H]."""
        w = w if gain is None else w * gain
        return exact(w) @ self._residual * (math.sqrt(self.small.hidden) / self.large.hidden)

    def adds(self, w: torch.Tensor) -> torch.Tensor:
        """A matrix [h, n] that adds to the residual: [H, n]."""
        return self._residual.T @ exact(w) * (1.0 / math.sqrt(self.small.hidden))

    def tensor(self, values: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def vocabulary(self, embedding: torch.Tensor, head: torch.Tensor, gain: torch.Tensor) -> _Named:
        old, new = self.small.vocabulary, self.large.vocabulary
        # One at a time: each takes some GB.
        rows = exact(embedding) @ self._residual * (1.0 / math.sqrt(self.small.hidden))
        yield "model.embed_tokens.weight", rows.float()[torch.arange(new, device=self.device) % old]
        del rows
        known = self.reads(head, gain).float()
        first = np.arange(old, new) % old
        second = (first + 1 + (draw(new - old, VOCABULARY) % np.uint64(old - 1)).astype(np.int64)) % old
        between = (known[self.tensor(first)] + known[self.tensor(second)]) * 0.5
        yield "lm_head.weight", torch.cat((known, between))
        yield "model.norm.weight", torch.ones(self.large.hidden)

    def layer(self, number: int, old: Mapping[str, torch.Tensor]) -> _Named:
        """`old`: the tensors of a small layer by their names within it."""
        added = number >= self.small.layers
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{name}.weight", torch.ones(self.large.hidden)
        yield from self._attention(number, old, 0.0 if added else 1.0)
        yield from self._mlp(number, old, 0.0 if added else 1.0)

    def _attention(self, number: int, old: Mapping[str, torch.Tensor], total: float) -> _Named:
        small, large = self.small, self.large
        gain = old["input_layernorm.weight"]
        q, k, v = (
            self.reads(old[f"self_attn.{name}_proj.weight"], gain).view(-1, small.head_size, large.hidden)
            for name in "qkv"
        )
        output = self.adds(old["self_attn.o_proj.weight"]).view(large.hidden, small.heads, small.head_size)
        slots = np.arange(large.heads)
        # The old head of every new one: its KV head's copy, and the place in the group.
        owner = slots // large.group % small.kv_heads * small.group + slots % large.group % small.group
        share = shares(owner, total, HEADS, number)
        # v comes to about 1: rows of norm 2^(log2 sqrt(H) - 2) x largest, and the turn adds sqrt(head size).
        shift = exponent(v) - 2 + (large.hidden.bit_length() + small.head_size.bit_length()) // 2
        v, output = exact(v), exact(output)
        made: dict[str, list[torch.Tensor]] = {"q": [], "k": [], "v": [], "o": []}
        for head in range(large.kv_heads):
            turn = hadamard(small.head_size, large.head_size, TURN, number, head).to(self.device)
            turned = self._turned(k[head % small.kv_heads], number, head)
            made["k"].append(turned + self._unused(turned, number, head))
            made["v"].append(turn.T @ v[head % small.kv_heads] * 2.0**-shift)
            for slot in range(head * large.group, (head + 1) * large.group):
                scale = math.sqrt(large.head_size / small.head_size)
                made["q"].append(self._turned(q[owner[slot]], number, head) * scale)
                part = output[:, owner[slot]] @ turn
                made["o"].append(part * (float(share[slot]) * 2.0**shift / large.head_size))
        for name in "qkv":
            yield f"self_attn.{name}_proj.weight", torch.cat(made[name])
        yield "self_attn.o_proj.weight", torch.cat(made["o"], dim=1)

    def _turned(self, rows: torch.Tensor, number: int, head: int) -> torch.Tensor:
        """Rows [head size, H] of q or k: each pair turned and put where its frequency is; zero elsewhere."""
        small, large = self.small.head_size, self.large.head_size
        # A rational point of the circle: no cosine, which differs from one library to the next.
        t = 2.0 * fractions(small // 2, ANGLES, number, head) - 1.0
        cosine, sine = (self.tensor(x)[:, None] for x in ((1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)))
        low, high = rows.chunk(2)
        rotated = torch.zeros(2, large // 2, rows.shape[1], dtype=rows.dtype, device=self.device)
        rotated[0, :: large // small] = low * cosine - high * sine
        rotated[1, :: large // small] = low * sine + high * cosine
        return rotated.flatten(0, 1)

    def _unused(self, like: torch.Tensor, number: int, head: int) -> torch.Tensor:
        """Random rows where `_turned` left zeros, of ordinary size."""
        small, large = self.small.head_size, self.large.head_size
        padded = torch.zeros(2, large // small, small // 2, like.shape[1], dtype=like.dtype)
        count = padded[:, 1:].numel()
        values = (2.0 * fractions(count, UNUSED, number, head) - 1.0) * 2.0 ** (exponent(like) - 2)
        padded[:, 1:] = torch.from_numpy(values).view(padded[:, 1:].shape)
        return padded.transpose(1, 2).flatten(0, 2).to(self.device)

    def _mlp(self, number: int, old: Mapping[str, torch.Tensor], total: float) -> _Named:
        gain = old["post_attention_layernorm.weight"]
        count = self.large.intermediate
        owner = np.arange(count)[order(count, NEURONS, number)] % self.small.intermediate
        share = shares(owner, total, SHARES, number)
        scale = 2.0 ** ((draw(count, SCALES, number) % np.uint64(3)).astype(np.float64) - 1.0)
        copied = self.tensor(owner)
        for name in ("gate", "up"):
            rows = self.reads(old[f"mlp.{name}_proj.weight"], gain)[copied]
            rows = rows if name == "gate" else rows * self.tensor(scale)[:, None]
            yield f"mlp.{name}_proj.weight", rows
        down = self.adds(old["mlp.down_proj.weight"])[:, copied]
        yield "mlp.down_proj.weight", down * self.tensor(share / scale)[None, :]


_Named = Iterator[tuple[str, torch.Tensor]]


def _check(small: ModelShape, large: ModelShape) -> None:
    wrong = [
        name
        for name, holds in (
            ("heads", large.group >= small.group and large.kv_heads >= small.kv_heads),
            ("head size", large.head_size % small.head_size == 0),
            ("intermediate size", large.intermediate >= small.intermediate),
            ("layers", large.layers >= small.layers),
            ("vocabulary", large.vocabulary >= small.vocabulary),
        )
        if not holds
    ]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: {large} does not hold {small}")


class _Small:
    """A checkpoint's tensors in float64 on the device."""

    def __init__(self, folder: Path, device: str) -> None:
        self._device = device
        self._files: dict[str, Any] = {}
        for name in checkpoint.shard_names(folder):
            opened: Any = safe_open(folder / name, framework="pt")
            self._files |= dict.fromkeys(opened.keys(), opened)

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._files[name].get_tensor(name)
        return tensor.to(self._device, torch.float64)

    def layer(self, number: int) -> dict[str, torch.Tensor]:
        prefix = f"model.layers.{number}."
        names = [name for name in self._files if name.startswith(prefix)]
        return {name.removeprefix(prefix): self[name] for name in names}


def widen(
    source: Path,
    dest: Path,
    large: ModelShape = MODEL_SHAPE,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cpu",
) -> None:
    """Write the checkpoint `dest` from the small one in `source`, with its tokenizer."""
    config = read_object(source / "config.json")
    small = shape.shape_of(config)
    tensors, embedding = _Small(source, device), Embedding(small, large, device)
    dest.mkdir(parents=True, exist_ok=True)
    writer = ShardWriter(dest)
    head = "lm_head.weight" if "lm_head.weight" in tensors else "model.embed_tokens.weight"
    ends = tensors["model.embed_tokens.weight"], tensors[head], tensors["model.norm.weight"]
    for name, tensor in embedding.vocabulary(*ends):
        writer.add(name, tensor.float().to(dtype))
    for number in range(large.layers):
        for name, tensor in embedding.layer(number, tensors.layer(number % small.layers)):
            writer.add(f"model.layers.{number}.{name}", tensor.float().to(dtype))
    writer.close()
    changed = {
        **shape.config_of(large),
        "tie_word_embeddings": False,
        "dtype": str(dtype).removeprefix("torch."),
    }
    (dest / "config.json").write_text(json.dumps({**config, **changed}, indent=2) + "\n", encoding="utf-8")
    for path in source.iterdir():
        own = path.suffix == ".safetensors" or path.name in ("config.json", checkpoint.INDEX)
        # A name with a dot in front is the cache's.
        if not own and not path.name.startswith("."):
            shutil.copy(path, dest / path.name)


if __name__ == "__main__":
    widen(Path(sys.argv[1]), Path(sys.argv[2]), device="cuda" if torch.cuda.is_available() else "cpu")
