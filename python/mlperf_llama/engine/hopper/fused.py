"""gemm.cu with gate_up.cu and qkv.cu in vLLM: an FP8 GEMM in one kernel with what follows it."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple, TypeAlias

import torch

from . import cuda
from .compat import direct_register_custom_op

OP = "mlperf_gate_up"
# Of a tile: outputs of gate_up, or a head; tokens; bytes of a row in a stage.
TILE_OUTPUTS, TILE_TOKENS, K_BLOCK = 128, 128, 128
# By the rows of the weight in a tile: K blocks in flight.
STAGES = {256: 4, 128: 6}


class TileConfig(NamedTuple):
    """How gemm.cu tiles: whether a cluster of two blocks shares the weight's `rows` of a tile, and how
    many tiles of tokens pass over the weight together."""

    multicast: bool
    rows: int
    group: int


# A wave of all blocks takes about so long (benchmarks/RESULTS.md).
WAVE_COSTS = {
    TileConfig(True, 256, 8): 0.98,
    TileConfig(False, 256, 16): 1.0,
    TileConfig(False, 128, 8): 0.54,
}
# x [tokens, depth] and w [rows, depth], E4M3, and the scale [1] of each, float32.
GemmOperands: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
# Of a cache: log2 of the tokens per page, strides in bytes of page, token and head.
CacheLayout: TypeAlias = tuple[int, int, int, int]
NO_CACHE: CacheLayout = (0, 0, 0, 0)


def choose_tile_config(tokens: int, rows: int, blocks: int) -> TileConfig:
    """The one whose waves take the least time; the last wave is often half empty."""
    tiles = -(-tokens // TILE_TOKENS)

    def cost(tile_config: TileConfig) -> float:
        cluster = 2 if tile_config.multicast else 1
        clusters_of_tiles = -(-tiles // cluster) * (rows // tile_config.rows)
        return WAVE_COSTS[tile_config] * -(-clusters_of_tiles // (blocks // cluster))

    return min(WAVE_COSTS, key=cost)


def gate_up_row_order(rows: int) -> torch.Tensor:
    """Rows of gate, then up, in the order of gate_up.cu: [rows] int64."""
    p, s, c, e = torch.meshgrid(*map(torch.arange, (16, 2, 4, 2)), indexing="ij")
    row = 64 * (p // 8) + 16 * c + 2 * (p % 8) + e + s * (rows // 2)
    return (torch.arange(rows // 2 // TILE_OUTPUTS)[:, None] * TILE_OUTPUTS + row.flatten()).flatten()


def head_row_order(rows: int) -> torch.Tensor:
    """Rows of q, k and v heads in the order of qkv.cu: [rows] int64."""
    p, s, c, e = torch.meshgrid(*map(torch.arange, (8, 2, 4, 2)), indexing="ij")
    row = 32 * (p // 4) + 8 * c + 2 * (p % 4) + e + 64 * s
    return (torch.arange(rows // TILE_OUTPUTS)[:, None] * TILE_OUTPUTS + row.flatten()).flatten()


def reorder_rows(layer: Any) -> None:
    """Put the rows of a weight [inputs, rows] into the order that `layer` asks for, if any."""
    if order := getattr(layer, "mlperf_row_order", None):
        _take_rows(layer, order(layer.weight.shape[1]))


def restore_rows(layer: Any) -> None:
    """Undo `reorder_rows`."""
    if order := getattr(layer, "mlperf_row_order", None):
        _take_rows(layer, order(layer.weight.shape[1]).argsort())


def _take_rows(layer: Any, index: torch.Tensor) -> None:
    rows = layer.weight.t().view(torch.uint8)
    rows.copy_(rows[index.to(rows.device)])


def supported(rows: int, depth: int) -> bool:
    """Whether gemm.cu takes a weight of this shape."""
    return rows % max(STAGES) == 0 and depth % K_BLOCK == 0


@cache
def _kernel(name: str, tile_config: TileConfig, layout: CacheLayout) -> cuda.Kernel:
    multicast, rows, group = tile_config
    stages = STAGES[rows]
    defines = {
        name.upper(): 1,
        "TILE_ROWS": rows,
        "STAGES": stages,
        "TILE_GROUP": group,
        "MULTICAST_W": int(multicast),
    }
    defines |= dict(zip(("PAGE_SHIFT", "PAGE_STRIDE", "TOKEN_STRIDE", "HEAD_STRIDE"), layout, strict=True))
    cubin = cuda.compile_source(cuda.source("common.cu", "gemm.cu", f"{name}.cu"), defines, "sm_90a")
    # memory_start in common.cu; two barriers a stage.
    shared = 1024 + stages * ((TILE_TOKENS + rows) * K_BLOCK + 16)
    return cuda.load(cubin, name, shared)


@cache
def _kernels(name: str, layout: CacheLayout) -> dict[TileConfig, cuda.Kernel]:
    """All that `choose_tile_config` may choose, so that none is compiled while a run is timed."""
    return {tile_config: _kernel(name, tile_config, layout) for tile_config in WAVE_COSTS}


@lru_cache(4096)
def _tensor_map(address: int, rows: int, columns: int, box: int) -> cuda.TensorMap:
    return cuda.tensor_map(address, (columns, rows), (columns,), (K_BLOCK, box))


@cache
def _multiprocessors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _launch(
    name: str,
    x: torch.Tensor,
    w: torch.Tensor,
    tokens: int,
    pointers: list[torch.Tensor],
    counts: list[int],
    tile_config: TileConfig | None,
    layout: CacheLayout = NO_CACHE,
) -> None:
    depth, count = x.shape[1], w.shape[0]
    # As many blocks as can be at work at once, in pairs.
    blocks = _multiprocessors(x.device) // 2 * 2
    if tile_config is None:
        tile_config = choose_tile_config(tokens, count, blocks)
        kernel = _kernels(name, layout)[tile_config]
    else:
        kernel = _kernel(name, tile_config, layout)
    multicast, rows, _ = tile_config
    maps = [_tensor_map(x.data_ptr(), tokens, depth, TILE_TOKENS)]
    maps += [_tensor_map(w.data_ptr(), count, depth, rows // 2 if multicast else rows)]
    kernel((blocks, 1), 384, [*maps, *pointers, tokens, *counts, depth])


def gate_up(
    x: torch.Tensor,
    w: torch.Tensor,
    x_scale: torch.Tensor,
    w_scale: torch.Tensor,
    out_scale: torch.Tensor,
    out: torch.Tensor,
    tile_config: TileConfig | None = None,
) -> None:
    """`out` [tokens, width] = silu(gate) * up / out_scale of `x` [tokens, depth], all E4M3.

    `w` [2 * width, depth] has its rows in `gate_up_row_order`. Scales [1] are float32 and on the GPU.
    """
    _launch("gate_up", x, w, len(x), [x_scale, w_scale, out_scale, out], [len(w) // 2], tile_config)


def qkv(
    x: torch.Tensor,
    w: torch.Tensor,
    x_scale: torch.Tensor,
    w_scale: torch.Tensor,
    positions: torch.Tensor,
    cos_sin: torch.Tensor,
    slots: torch.Tensor,
    k_scale: torch.Tensor,
    v_scale: torch.Tensor,
    out: torch.Tensor,
    cache: torch.Tensor,
    tokens: int,
    tile_config: TileConfig | None = None,
) -> None:
    """`out` [rows, heads * 128] bf16: q, k and v of the first `tokens` rows of `x`, q and k rotated.

    k and v go to the cache, too. `w` [heads * 128, depth] has its rows in `head_row_order`; the rest is as in
    `Kernels.rope_cache` of kernels.py.
    """
    page, head, token, _ = cache.stride()
    kv_heads = cache.shape[1]
    heads = len(w) // TILE_OUTPUTS
    pointers = [x_scale, w_scale, positions, cos_sin, slots, k_scale, v_scale, out, cache]
    layout = (cache.shape[2].bit_length() - 1, page, token, head)
    _launch("qkv", x, w, tokens, pointers, [heads - 2 * kv_heads, kv_heads], tile_config, layout)


def _run(
    x: torch.Tensor, w: torch.Tensor, x_scale: torch.Tensor, w_scale: torch.Tensor, out_scale: torch.Tensor
) -> torch.Tensor:
    out = _fake(x, w, x_scale, w_scale, out_scale)
    gate_up(x, w, x_scale, w_scale, out_scale, out)
    return out


def _fake(
    x: torch.Tensor, w: torch.Tensor, x_scale: torch.Tensor, w_scale: torch.Tensor, out_scale: torch.Tensor
) -> torch.Tensor:
    return x.new_empty((x.shape[0], w.shape[0] // 2))


def install() -> None:
    """Register the operation; once a process."""
    direct_register_custom_op(op_name=OP, op_func=_run, fake_impl=_fake)
