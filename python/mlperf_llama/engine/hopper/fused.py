"""fused.cu in vLLM: gate and up, activation and quantisation of an MLP in one kernel."""

from __future__ import annotations

import ctypes
from functools import cache, lru_cache
from pathlib import Path
from typing import TypeAlias

import torch
from vllm.utils.torch_utils import direct_register_custom_op

from . import cuda

OP = "mlperf_gate_up"

SOURCE = Path(__file__).with_name("fused.cu")
# Of one thread block: outputs of gate_up and tokens; bytes of a row at a time.
OUTPUTS, TOKENS, PIECE = 128, 128, 128
# Rows of the weight that a block takes at a time, and pieces on their way.
STAGES = {256: 4, 128: 6}
# Whether two blocks share the weight's rows, how many rows, tiles of tokens that go together.
How: TypeAlias = tuple[bool, int, int]
# A round of all blocks takes about so long (benchmarks/RESULTS.md).
COSTS: dict[How, float] = {(True, 256, 8): 0.98, (False, 256, 16): 1.0, (False, 128, 8): 0.54}


def how(tokens: int, rows: int, blocks: int) -> How:
    """The way with the shortest rounds altogether; the last one is often half empty."""
    tiles = -(-tokens // TOKENS)

    def cost(way: How) -> float:
        share, wide, _ = way
        shared = 2 if share else 1
        return COSTS[way] * -(-(-(-tiles // shared) * (rows // wide)) // (blocks // shared))

    return min(COSTS, key=cost)


def order(width: int) -> torch.Tensor:
    """Rows of [gate, up] (each `width`) in the order of fused.cu: [2 * width] int64."""
    p, s, c, e = torch.meshgrid(*map(torch.arange, (16, 2, 4, 2)), indexing="ij")
    row = 64 * (p // 8) + 16 * c + 2 * (p % 8) + e + s * width
    return (torch.arange(width // OUTPUTS)[:, None] * OUTPUTS + row.flatten()).flatten()


def supported(rows: int, depth: int) -> bool:
    """Whether fused.cu takes a weight of this shape."""
    return rows % max(STAGES) == 0 and depth % PIECE == 0


@cache
def _kernel(share: bool, rows: int, group: int) -> cuda.Kernel:
    """`share`: whether two tiles of tokens share what they need of the weight."""
    stages = STAGES[rows]
    defines = {"ROWS": rows, "STAGES": stages, "GROUP": group, "SHARE_W": int(share)}
    cubin = cuda.compile_source(SOURCE.read_bytes(), defines, "sm_90a")
    # The start is rounded up to 1,024; two barriers a stage.
    shared = 1024 + stages * ((TOKENS + rows) * PIECE + 16)
    return cuda.load(cubin, ["gate_up"], shared)["gate_up"]


@lru_cache(4096)
def _map(address: int, rows: int, columns: int, box: int) -> ctypes.Array[ctypes.c_char]:
    return cuda.byte_map(address, rows, columns, box)


@cache
def _processors(device: torch.device) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


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

    `w` [2 * width, depth] has the rows of gate and up in `order`. Scales [1] are float32 and on the GPU.
    """
    (tokens, depth), count = x.shape, w.shape[0]
    # As many blocks as can be at work at once, in pairs.
    blocks = _processors(x.device) // 2 * 2
    share, rows, group = way or how(tokens, count, blocks)
    x_map = _map(x.data_ptr(), tokens, depth, TOKENS)
    w_map = _map(w.data_ptr(), count, depth, rows // 2 if share else rows)
    arguments = [x_map, w_map, x_scale, w_scale, out_scale, out, tokens, count // 2, depth]
    _kernel(share, rows, group)((blocks, 1), 384, arguments)


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
