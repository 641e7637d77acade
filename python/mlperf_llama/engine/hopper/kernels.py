"""kernels.cu, compiled for one cache layout and called with torch tensors."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from . import cuda

SOURCE = Path(__file__).with_name("kernels.cu")
HEAD_SIZE = 128
WARPS = 8
# Blocks a multiprocessor holds at once: 127 registers a thread allow no third.
MIN_BLOCKS = 2
# Bytes that a load brings to L2: V comes along with K (480 sequences: 373 us for 388, 1,000: no difference).
AHEAD = 256


def on_hopper() -> bool:
    """Whether the kernels of this package can run here."""
    return bool(torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0))


def supported(q_heads: int, kv_heads: int, head_size: int, page: int) -> bool:
    """What kernels.cu was written for."""
    group, rest = divmod(q_heads, kv_heads)
    whole_pages = page >= 16 and page & (page - 1) == 0
    return head_size == HEAD_SIZE and not rest and group <= 8 and whole_pages


@lru_cache
def _compiled(
    group: int, page: int, strides: tuple[int, int, int], blocks: int, warps: int, ahead: int
) -> dict[str, cuda.Kernel]:
    """Both kernels for one layout; `strides` in bytes: page, token, head."""
    names = ("PAGE_STRIDE", "TOKEN_STRIDE", "HEAD_STRIDE")
    defines = {"GROUP": group, "PAGE_SHIFT": page.bit_length() - 1}
    defines |= {"MIN_BLOCKS": blocks, "WARPS": warps, "AHEAD": ahead}
    major, minor = torch.cuda.get_device_capability()
    cubin = cuda.compile_source(
        SOURCE.read_bytes(), {**defines, **dict(zip(names, strides, strict=True))}, f"sm_{major}{minor}"
    )
    return cuda.load(cubin, ["rope_cache", "decode"])


class Kernels:
    """Bound to one cache: [pages, KV heads, tokens a page, K and V: 256] bytes, whatever its strides."""

    def __init__(
        self,
        cache: torch.Tensor,
        q_heads: int,
        kv_heads: int,
        blocks: int = MIN_BLOCKS,
        warps: int = WARPS,
        ahead: int = AHEAD,
    ) -> None:
        page, head, token, _ = cache.stride()
        self.q_heads, self.kv_heads = q_heads, kv_heads
        found = _compiled(q_heads // kv_heads, cache.shape[2], (page, token, head), blocks, warps, ahead)
        self._threads = warps * 32
        self._rope_cache, self._decode = found["rope_cache"], found["decode"]
        self._rope_threads = (q_heads + kv_heads) * 8 + kv_heads * 16

    def rope_cache(
        self,
        qkv: torch.Tensor,
        positions: torch.Tensor,
        cos_sin: torch.Tensor,
        cache: torch.Tensor,
        slots: torch.Tensor,
        k_scale: torch.Tensor,
        v_scale: torch.Tensor,
        tokens: int,
    ) -> None:
        """Rotate q and k of `qkv` [tokens, heads * 128] bf16 in place; write k and v to the cache.

        `positions` and `slots` are int64; a slot below 0 writes nothing. `cos_sin` is bf16.
        """
        arguments = [qkv, positions, cos_sin, cache, slots, k_scale, v_scale, self.q_heads, self.kv_heads]
        self._rope_cache((tokens, 1), self._rope_threads, arguments)

    def decode(
        self,
        qkv: torch.Tensor,
        cache: torch.Tensor,
        block_table: torch.Tensor,
        lengths: torch.Tensor,
        k_scale: torch.Tensor,
        v_scale: torch.Tensor,
        softmax_scale: float,
        out: torch.Tensor,
        sequences: int,
    ) -> None:
        """Attention of one rotated query a sequence (a row of `qkv`); `out` [rows, q heads * 128] bf16."""
        arguments = [qkv, qkv.stride(0), cache, block_table, block_table.stride(0), lengths]
        arguments += [k_scale, v_scale, softmax_scale, out, out.stride(0)]
        self._decode((self.kv_heads, sequences), self._threads, arguments)
