"""FP8 products: cuBLASLt's own choice of an algorithm, but for large ones, where another is faster.

At its power limit a card runs the leaner kernel faster. cuBLASLt's first choice for the product behind a
norm (q, k and v) is not the leanest, and its first choices are slow where a product adds to the residual:
with one other tile each the whole Offline run is 0.8% and 2% faster (benchmarks/RESULTS.md). For most
numbers of rows that steps have, that tile is not among the proposals. So it is asked for once, at one where
it is, and then used wherever cuBLASLt accepts it.
"""

from __future__ import annotations

from functools import cache, lru_cache

import torch
from vllm.utils.torch_utils import direct_register_custom_op

from . import cublaslt

OP, SUM_OP = "mlperf_wide_product", "mlperf_product_sum"
# cublasLtMatmulTile_t 176 x 128, and 256 x 128 for sums.
TILE, SUM_TILE = 201, 24
# A tile takes 128 rows, and with few the last one's empty part costs more than the tile gains: gate and up
# are 9, 6 and 4% faster at 4,089, 6,327 and 8,301 rows, 10 and 13% slower at 2,051 and 1,029.
MIN_ROWS = 4000
# Here they are among the proposals; cuBLASLt knows no more than eight.
ASKED_ROWS = 8448
_PROPOSALS = 8


@cache
def _leaner(n: int, k: int, tile: int) -> cublaslt.Algorithm | None:
    proposed = cublaslt.Product(ASKED_ROWS, n, k).proposed(_PROPOSALS)
    return next((algorithm for algorithm in proposed if algorithm.tile == tile), None)


@cache
def _plan(rows: int, n: int, k: int, tile: int) -> tuple[cublaslt.Product, cublaslt.Algorithm] | None:
    """None where cuBLASLt does not know that tile, or not for so many rows."""
    algorithm = _leaner(n, k, tile) if rows >= MIN_ROWS else None
    if algorithm is None:
        return None
    product = cublaslt.Product(rows, n, k)
    return (product, algorithm) if product.takes(algorithm) else None


@lru_cache
def _workspace(device: torch.device) -> torch.Tensor:
    return torch.empty(cublaslt.WORKSPACE_BYTES, dtype=torch.uint8, device=device)


@cache
def _sum_plan(rows: int, n: int, k: int) -> tuple[cublaslt.Product, cublaslt.Algorithm] | None:
    if plan := _plan(rows, n, k, SUM_TILE):
        return plan
    product = cublaslt.Product(rows, n, k)
    first = next(iter(product.proposed(1)), None)
    return (product, first) if first else None


def _fits(*matrices: torch.Tensor) -> bool:
    """Whether cublaslt.py can take them as they lie."""
    return all(matrix.is_cuda and matrix.is_contiguous() for matrix in matrices)


def _run(a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor) -> torch.Tensor:
    rows, (n, k) = a.shape[0], w.shape
    plan = _plan(rows, n, k, TILE) if _fits(a, w) else None
    if plan is None:
        return scaled(a, w, scale_a, scale_w)
    product, algorithm = plan
    out = torch.empty((rows, n), dtype=torch.bfloat16, device=a.device)
    product.run(a, w, scale_a, scale_w, out, algorithm, _workspace(a.device))
    return out


def _run_sum(
    a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor, added: torch.Tensor
) -> torch.Tensor:
    plan = _sum_plan(a.shape[0], *w.shape) if _fits(a, w, added) else None
    if plan is None:
        return scaled(a, w, scale_a, scale_w) + added
    product, algorithm = plan
    out = torch.empty_like(added)
    product.run(a, w, scale_a, scale_w, out, algorithm, _workspace(a.device), added)
    return out


def _fake(a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor) -> torch.Tensor:
    return a.new_empty((a.shape[0], w.shape[0]), dtype=torch.bfloat16)


def _fake_sum(
    a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor, added: torch.Tensor
) -> torch.Tensor:
    return torch.empty_like(added)


def scaled(a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor) -> torch.Tensor:
    """torch's, with the tensor cores' own accumulation, as vLLM's CUTLASS kernels have it.

    Without it cuBLASLt adds every few partial sums in ordinary registers, which costs time.
    """
    given = {"scale_a": scale_a, "scale_b": scale_w, "use_fast_accum": True}
    return torch._scaled_mm(a, w.t(), out_dtype=torch.bfloat16, **given)


def product(a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor) -> torch.Tensor:
    """`a` [rows, k] times `w` [n, k], both E4M3, and their scales [1]: [rows, n] bf16."""
    n, k = w.shape
    if n > k:
        found: torch.Tensor = torch.ops.vllm.mlperf_wide_product(a, w, scale_a, scale_w)
        return found
    return scaled(a, w, scale_a, scale_w)


def product_sum(
    a: torch.Tensor, w: torch.Tensor, scale_a: torch.Tensor, scale_w: torch.Tensor, added: torch.Tensor
) -> torch.Tensor:
    """The same plus `added` [rows, n] bf16, in one pass: the product alone is neither rounded nor stored."""
    found: torch.Tensor = torch.ops.vllm.mlperf_product_sum(a, w, scale_a, scale_w, added)
    return found


def install() -> None:
    """Register the operations; once a process."""
    direct_register_custom_op(op_name=OP, op_func=_run, fake_impl=_fake)
    direct_register_custom_op(op_name=SUM_OP, op_func=_run_sum, fake_impl=_fake_sum)
