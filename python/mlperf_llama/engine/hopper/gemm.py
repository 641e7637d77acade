"""FP8 GEMMs: cuBLASLt's own choice of an algorithm, but for large ones, where another is faster.

At its power limit a card runs the leaner kernel faster. cuBLASLt's first choice for the GEMM behind a norm
(q, k and v) is not the leanest, and its first choices are slow where a GEMM adds the residual: with one
other tile each the whole Offline run is 0.8% and 2% faster (benchmarks/RESULTS.md). For most numbers of
rows that steps have, the heuristic does not give that tile. So the heuristic is asked once, for a number of
rows where it does, and the algorithm is then used wherever cuBLASLt supports it.
"""

from __future__ import annotations

from functools import cache, lru_cache

import torch

from . import cublaslt
from .compat import direct_register_custom_op

OP, RESIDUAL_OP = "mlperf_wide_gemm", "mlperf_gemm_residual"
# cublasLtMatmulTile_t 176 x 128, and 256 x 128 with a residual.
TILE, RESIDUAL_TILE = 201, 24
# A tile has 128 rows, and with few the last one's empty part costs more than the tile gains: gate and up
# are 9, 6 and 4% faster at 4,089, 6,327 and 8,301 rows, 10 and 13% slower at 2,051 and 1,029.
MIN_ROWS = 4000
# Here the heuristic gives both tiles; it gives no more than eight algorithms.
HEURISTIC_ROWS = 8448
_HEURISTICS = 8


@cache
def _tile_algorithm(n: int, k: int, tile: int) -> cublaslt.Algorithm | None:
    heuristics = cublaslt.Matmul(HEURISTIC_ROWS, n, k).heuristics(_HEURISTICS)
    return next((algorithm for algorithm in heuristics if algorithm.tile == tile), None)


@cache
def _plan(rows: int, n: int, k: int, tile: int) -> tuple[cublaslt.Matmul, cublaslt.Algorithm] | None:
    """None where cuBLASLt does not know that tile, or not for so many rows."""
    algorithm = _tile_algorithm(n, k, tile) if rows >= MIN_ROWS else None
    if algorithm is None:
        return None
    matmul = cublaslt.Matmul(rows, n, k)
    return (matmul, algorithm) if matmul.supports(algorithm) else None


@lru_cache
def _workspace(device: torch.device) -> torch.Tensor:
    return torch.empty(cublaslt.WORKSPACE_BYTES, dtype=torch.uint8, device=device)


@cache
def _residual_plan(rows: int, n: int, k: int) -> tuple[cublaslt.Matmul, cublaslt.Algorithm] | None:
    if plan := _plan(rows, n, k, RESIDUAL_TILE):
        return plan
    matmul = cublaslt.Matmul(rows, n, k)
    first = next(iter(matmul.heuristics(1)), None)
    return (matmul, first) if first else None


def _fits(*matrices: torch.Tensor) -> bool:
    """Whether cublaslt.py can take them as they lie."""
    return all(matrix.is_cuda and matrix.is_contiguous() for matrix in matrices)


def _run(a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor) -> torch.Tensor:
    rows, (n, k) = a.shape[0], w.shape
    plan = _plan(rows, n, k, TILE) if _fits(a, w) else None
    if plan is None:
        return scaled(a, w, scale_a, scale_w)
    matmul, algorithm = plan
    out = torch.empty((rows, n), dtype=torch.bfloat16, device=a.device)
    matmul.run(a, w, scale_a, scale_w, out, algorithm, _workspace(a.device))
    return out


def _run_residual(
    a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor, residual: torch.Tensor
) -> torch.Tensor:
    plan = _residual_plan(a.shape[0], *w.shape) if _fits(a, w, residual) else None
    if plan is None:
        return scaled(a, w, scale_a, scale_w) + residual
    matmul, algorithm = plan
    out = torch.empty_like(residual)
    matmul.run(a, w, scale_a, scale_w, out, algorithm, _workspace(a.device), residual)
    return out


def _fake(a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor) -> torch.Tensor:
    return a.new_empty((a.shape[0], w.shape[0]), dtype=torch.bfloat16)


def _fake_residual(
    a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor, residual: torch.Tensor
) -> torch.Tensor:
    return torch.empty_like(residual)


def scaled(a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor) -> torch.Tensor:
    """torch's, with the tensor cores' own accumulation, as vLLM's CUTLASS kernels have it.

    Without it cuBLASLt adds every few partial sums in ordinary registers, which costs time.
    """
    scales = {"scale_a": scale_a, "scale_b": scale_w}
    return torch._scaled_mm(a, w.t(), out_dtype=torch.bfloat16, use_fast_accum=True, **scales)


def gemm(a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor) -> torch.Tensor:
    """`a` [rows, k] times `w` [n, k], both E4M3, and their scales [1]: [rows, n] bf16."""
    n, k = w.shape
    if n > k:
        out: torch.Tensor = torch.ops.vllm.mlperf_wide_gemm(a, w, scale_a, scale_w)
        return out
    return scaled(a, w, scale_a, scale_w)


def gemm_residual(
    a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor, residual: torch.Tensor
) -> torch.Tensor:
    """The same plus `residual` [rows, n] bf16, in one pass: the product is neither rounded nor stored."""
    out: torch.Tensor = torch.ops.vllm.mlperf_gemm_residual(a, w, scale_a, scale_w, residual)
    return out


def install() -> None:
    """Register the operations; once a process."""
    direct_register_custom_op(op_name=OP, op_func=_run, fake_impl=_fake)
    direct_register_custom_op(op_name=RESIDUAL_OP, op_func=_run_residual, fake_impl=_fake_residual)
