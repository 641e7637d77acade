"""decode.cu and rope_cache.cu, compiled for one cache layout and called with torch tensors."""

from __future__ import annotations

from functools import cache, lru_cache

import torch

from . import cuda

HEAD_SIZE = 128
WARPS = 8
# Blocks that a multiprocessor holds at once: 108 registers per thread allow no third.
MIN_BLOCKS = 2
# Tiles of 16 keys that a warp has in flight: 3 are no faster than 2 (benchmarks/RESULTS.md).
STAGES, TILE = 2, 16


def on_hopper() -> bool:
    """Whether the kernels of this package can run here."""
    return bool(torch.cuda.is_available() and torch.cuda.get_device_capability() == (9, 0))


def supported(q_heads: int, kv_heads: int, head_size: int, page: int) -> bool:
    """What decode.cu and rope_cache.cu were written for."""
    group, rest = divmod(q_heads, kv_heads)
    whole_pages = page >= 16 and page & (page - 1) == 0
    return head_size == HEAD_SIZE and not rest and group <= 8 and whole_pages


@cache
def _kernel(name: str, defines: tuple[tuple[str, int], ...], shared: int = 0) -> cuda.Kernel:
    source = cuda.source("common.cu", f"{name}.cu")
    cubin = cuda.compile_source(source, {name.upper(): 1, **dict(defines)}, "sm_90")
    return cuda.load(cubin, name, shared)


@lru_cache(1024)
def _tensor_map(address: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> cuda.TensorMap:
    """How TMA reads a cache: K or V of 16 tokens and one head at a time."""
    pages, heads, tokens, size = shape
    page, head, token, _ = strides
    return cuda.tensor_map(
        address, (size, heads, tokens, pages), (head, token, page), (HEAD_SIZE, 1, TILE, 1)
    )


class Kernels:
    """Bound to one layout: a cache [pages, KV heads, tokens per page, K and V: 256] of bytes, any strides."""

    def __init__(
        self,
        cache: torch.Tensor,
        q_heads: int,
        kv_heads: int,
        blocks: int = MIN_BLOCKS,
        warps: int = WARPS,
        stages: int = STAGES,
    ) -> None:
        page, head, token, _ = cache.stride()
        self.q_heads, self.kv_heads = q_heads, kv_heads
        shift = ("PAGE_SHIFT", cache.shape[2].bit_length() - 1)
        strides = ("PAGE_STRIDE", page), ("TOKEN_STRIDE", token), ("HEAD_STRIDE", head)
        self._rope_cache = _kernel("rope_cache", (shift, *strides))
        sizes = ("GROUP", q_heads // kv_heads), ("MIN_BLOCKS", blocks), ("WARPS", warps), ("STAGES", stages)
        # memory_start in common.cu; K and V of the tiles, and a barrier each.
        shared = 1024 + warps * stages * (TILE * 2 * HEAD_SIZE + 8)
        self._decode = _kernel("decode", (shift, *sizes), shared)
        self._threads = warps * 32
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
        """Attention of one rotated query per sequence (a row of `qkv`); `out` [rows, q heads * 128] bf16."""
        cache_map = _tensor_map(cache.data_ptr(), tuple(cache.shape), cache.stride())
        inputs = (cache_map, qkv, qkv.stride(0), block_table, block_table.stride(0), lengths)
        arguments = [*inputs, k_scale, v_scale, softmax_scale, out, out.stride(0)]
        self._decode((self.kv_heads, sequences), self._threads, arguments)
