"""product.cu with gate_up.cu and qkv.cu in vLLM: FP8 products in one kernel with what follows them."""

from __future__ import annotations

import ctypes
from functools import cache, lru_cache
from typing import Any, TypeAlias

import torch
from vllm.utils.torch_utils import direct_register_custom_op

from . import cuda

OP = "mlperf_gate_up"
# Of a tile: outputs of gate_up, or a head; tokens; bytes of a row at a time.
OUTPUTS, TOKENS, PIECE = 128, 128, 128
# Rows of the weight that a block takes at a time, and pieces on their way.
STAGES = {256: 4, 128: 6}
# Whether two blocks share the weight's rows, how many rows, tiles of tokens that go together.
How: TypeAlias = tuple[bool, int, int]
# A round of all blocks takes about so long (benchmarks/RESULTS.md).
COSTS: dict[How, float] = {(True, 256, 8): 0.98, (False, 256, 16): 1.0, (False, 128, 8): 0.54}
# x [tokens, depth] and w [rows, depth], E4M3, and the scale [1] of each, float32.
Factors: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
# Of a cache: log2 of the tokens a page, strides in bytes of page, token and head.
Layout: TypeAlias = tuple[int, int, int, int]
NO_CACHE: Layout = (0, 0, 0, 0)


def how(tokens: int, rows: int, blocks: int) -> How:
    """The way with the shortest rounds altogether; the last one is often half empty."""
    tiles = -(-tokens // TOKENS)

    def cost(way: How) -> float:
        share, wide, _ = way
        shared = 2 if share else 1
        return COSTS[way] * -(-(-(-tiles // shared) * (rows // wide)) // (blocks // shared))

    return min(COSTS, key=cost)


def gate_up_order(rows: int) -> torch.Tensor:
    """Rows of gate, then up, in the order of gate_up.cu: [rows] int64."""
    p, s, c, e = torch.meshgrid(*map(torch.arange, (16, 2, 4, 2)), indexing="ij")
    row = 64 * (p // 8) + 16 * c + 2 * (p % 8) + e + s * (rows // 2)
    return (torch.arange(rows // 2 // OUTPUTS)[:, None] * OUTPUTS + row.flatten()).flatten()


def head_order(rows: int) -> torch.Tensor:
    """Rows of q, k and v heads in the order of qkv.cu: [rows] int64."""
    p, s, c, e = torch.meshgrid(*map(torch.arange, (8, 2, 4, 2)), indexing="ij")
    row = 32 * (p // 4) + 8 * c + 2 * (p % 4) + e + 64 * s
    return (torch.arange(rows // OUTPUTS)[:, None] * OUTPUTS + row.flatten()).flatten()


def put_in_order(layer: Any) -> None:
    """Lay the rows of a weight [inputs, rows] down in the order that `layer` asks for, if any."""
    if order := getattr(layer, "mlperf_order", None):
        rows = layer.weight.t().view(torch.uint8)
        rows.copy_(rows[order(len(rows)).to(rows.device)])


def supported(rows: int, depth: int) -> bool:
    """Whether product.cu takes a weight of this shape."""
    return rows % max(STAGES) == 0 and depth % PIECE == 0


@cache
def _kernel(name: str, way: How, layout: Layout) -> cuda.Kernel:
    share, rows, group = way
    stages = STAGES[rows]
    defines = {name.upper(): 1, "ROWS": rows, "STAGES": stages, "GROUP": group, "SHARE_W": int(share)}
    defines |= dict(zip(("PAGE_SHIFT", "PAGE_STRIDE", "TOKEN_STRIDE", "HEAD_STRIDE"), layout, strict=True))
    cubin = cuda.compile_source(cuda.source("common.cu", "product.cu", f"{name}.cu"), defines, "sm_90a")
    # memory_start in common.cu; two barriers a stage.
    shared = 1024 + stages * ((TOKENS + rows) * PIECE + 16)
    return cuda.load(cubin, name, shared)


@cache
def _kernels(name: str, layout: Layout) -> dict[How, cuda.Kernel]:
    """All that `how` may choose from, so that none is compiled while a run is timed."""
    return {way: _kernel(name, way, layout) for way in COSTS}


@lru_cache(4096)
def _map(address: int, rows: int, columns: int, box: int) -> ctypes.Array[ctypes.c_char]:
    return cuda.tensor_map(address, (columns, rows), (columns,), (PIECE, box))


@cache
def _processors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _launch(
    name: str,
    x: torch.Tensor,
    w: torch.Tensor,
    tokens: int,
    given: list[torch.Tensor],
    counts: list[int],
    way: How | None,
    layout: Layout = NO_CACHE,
) -> None:
    depth, count = x.shape[1], w.shape[0]
    # As many blocks as can be at work at once, in pairs.
    blocks = _processors(x.device) // 2 * 2
    if way is None:
        way = how(tokens, count, blocks)
        kernel = _kernels(name, layout)[way]
    else:
        kernel = _kernel(name, way, layout)
    share, rows, _ = way
    maps = [_map(x.data_ptr(), tokens, depth, TOKENS)]
    maps += [_map(w.data_ptr(), count, depth, rows // 2 if share else rows)]
    kernel((blocks, 1), 384, [*maps, *given, tokens, *counts, depth])


def gate_up(
    x: torch.Tensor,
    w: torch.Tensor,
    x_scale: torch.Tensor,
    w_scale: torch.Tensor,
    out_scale: torch.Tensor,
    out: torch.Tensor,
    way: How | None = None,
) -> None:
    """`out` [tokens, width] = silu(gate) * up / out_scale of `x` [tokens, depth], all E4M3.

    `w` [2 * width, depth] has its rows in `gate_up_order`. Scales [1] are float32 and on the GPU.
    """
    _launch("gate_up", x, w, len(x), [x_scale, w_scale, out_scale, out], [len(w) // 2], way)


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
    way: How | None = None,
) -> None:
    """`out` [rows, heads * 128] bf16: q, k and v of the first `tokens` rows of `x`, q and k rotated.

    k and v go to the cache, too. `w` [heads * 128, depth] has its rows in `head_order`; the rest is as in
    `Kernels.rope_cache` of kernels.py.
    """
    page, head, token, _ = cache.stride()
    kv_heads = cache.shape[1]
    heads = len(w) // OUTPUTS
    given = [x_scale, w_scale, positions, cos_sin, slots, k_scale, v_scale, out, cache]
    layout = (cache.shape[2].bit_length() - 1, page, token, head)
    _launch("qkv", x, w, tokens, given, [heads - 2 * kv_heads, kv_heads], way, layout)


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
