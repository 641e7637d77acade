"""kernels.cu and decode_even.cu, compiled for one cache layout and called with torch tensors."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from . import cuda

FOLDER = Path(__file__).parent
HEAD_SIZE, TILE = 128, 16
WARPS = 8
# Blocks a multiprocessor holds at once: 127 registers a thread allow no third.
MIN_BLOCKS = 2
# Bytes that a load brings to L2: V comes along with K (480 sequences: 373 us for 388, 1,000: no difference).
AHEAD = 256


def source(even: bool) -> bytes:
    """What is compiled: decode_even.cu goes behind kernels.cu."""
    names = ("kernels.cu", "decode_even.cu") if even else ("kernels.cu",)
    return b"".join((FOLDER / name).read_bytes() for name in names)


def starts_of(lengths: torch.Tensor, out: torch.Tensor) -> None:
    """The first tile of each sequence if all lie one behind the other, and the end: `out` [sequences + 1]."""
    torch.cumsum((lengths + TILE - 1) // TILE, 0, dtype=torch.int32, out=out[1:])


def supported(q_heads: int, kv_heads: int, head_size: int, page: int) -> bool:
    """What kernels.cu was written for."""
    group, rest = divmod(q_heads, kv_heads)
    whole_pages = page >= 16 and page & (page - 1) == 0
    return head_size == HEAD_SIZE and not rest and group <= 8 and whole_pages


@lru_cache
def _compiled(
    group: int, page: int, strides: tuple[int, int, int], blocks: int, warps: int, ahead: int, even: bool
) -> dict[str, cuda.Kernel]:
    """The kernels for one layout; `strides` in bytes: page, token, head."""
    names = ("PAGE_STRIDE", "TOKEN_STRIDE", "HEAD_STRIDE")
    defines = {"GROUP": group, "PAGE_SHIFT": page.bit_length() - 1}
    defines |= {"MIN_BLOCKS": blocks, "WARPS": warps, "AHEAD": ahead}
    major, minor = torch.cuda.get_device_capability()
    cubin = cuda.compile_source(
        source(even), {**defines, **dict(zip(names, strides, strict=True))}, f"sm_{major}{minor}"
    )
    return cuda.load(cubin, ["rope_cache", "decode", *(["decode_even"] if even else [])])


@lru_cache
def _workspace(floats: int, counters: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """For sums that are not yet whole, and for the tiles that have been seen of a sequence and head."""
    return torch.empty(floats, device=device), torch.zeros(counters, dtype=torch.int32, device=device)


class Kernels:
    """Bound to one cache: [pages, KV heads, tokens a page, K and V: 256] bytes, whatever its strides.

    `seats`: the most sequences of a step, for `decode_even`; 0 where it is not used.
    """

    def __init__(
        self,
        cache: torch.Tensor,
        q_heads: int,
        kv_heads: int,
        blocks: int = MIN_BLOCKS,
        warps: int = WARPS,
        ahead: int = AHEAD,
        seats: int = 0,
    ) -> None:
        page, head, token, _ = cache.stride()
        self.q_heads, self.kv_heads = q_heads, kv_heads
        found = _compiled(
            q_heads // kv_heads, cache.shape[2], (page, token, head), blocks, warps, ahead, seats > 0
        )
        self._threads = warps * 32
        if seats:
            # As many blocks as a GPU holds at once.
            processors = torch.cuda.get_device_properties(cache.device).multi_processor_count
            self._chunks = processors * blocks // kv_heads
            floats = self._chunks * 2 * q_heads * (HEAD_SIZE + 2)
            self._decode_even = found["decode_even"]
            self._workspace = _workspace(floats, seats * kv_heads, cache.device)
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

    def decode_even(
        self,
        qkv: torch.Tensor,
        cache: torch.Tensor,
        block_table: torch.Tensor,
        lengths: torch.Tensor,
        starts: torch.Tensor,
        k_scale: torch.Tensor,
        v_scale: torch.Tensor,
        softmax_scale: float,
        out: torch.Tensor,
        sequences: int,
    ) -> None:
        """The same, each block with as many tiles as any other. `starts` (int32): see starts_of.

        Rows of `out` whose length is 0 are left as they are.
        """
        arguments = [
            qkv,
            qkv.stride(0),
            cache,
            block_table,
            block_table.stride(0),
            lengths,
            starts,
            sequences,
        ]
        arguments += [k_scale, v_scale, softmax_scale, out, out.stride(0), *self._workspace]
        self._decode_even((self.kv_heads, self._chunks), self._threads, arguments)
