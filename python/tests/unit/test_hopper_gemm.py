"""Which algorithm an FP8 GEMM takes. cuBLASLt needs a GPU: benchmarks/gpu/measure_gemm.py."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import gemm

pytestmark = pytest.mark.slow


def multiplied(
    a: torch.Tensor,
    w: torch.Tensor,
    scale_a: torch.Tensor,
    scale_w: torch.Tensor,
    out: torch.Tensor,
    algorithm: SimpleNamespace,
    workspace: torch.Tensor,
    residual: torch.Tensor | None = None,
) -> None:
    """cublaslt.Matmul.run on a CPU."""
    product = (a.float() * scale_a) @ (w.float() * scale_w).t()
    out.copy_(product if residual is None else product + residual)


class Library:
    """cuBLASLt as its callers see it: its heuristic, by the number of rows, and what it refuses."""

    def __init__(self, heuristics: dict[int, list[int]], refused: int = 0) -> None:
        self.heuristics_at, self.refused = heuristics, refused
        self.requested: list[int] = []

    def Matmul(self, rows: int, n: int, k: int) -> SimpleNamespace:
        def heuristics(count: int) -> list[SimpleNamespace]:
            self.requested.append(rows)
            return [SimpleNamespace(tile=tile) for tile in self.heuristics_at.get(rows, [502])]

        def supports(algorithm: SimpleNamespace) -> bool:
            return rows != self.refused

        return SimpleNamespace(heuristics=heuristics, supports=supports, run=multiplied)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    found = Library({gemm.HEURISTIC_ROWS: [209, gemm.TILE]}, refused=4195)
    monkeypatch.setattr(gemm.cublaslt, "Matmul", found.Matmul)
    yield found
    gemm._tile_algorithm.cache_clear()
    gemm._plan.cache_clear()
    gemm._residual_plan.cache_clear()


def test_every_number_of_rows_takes_the_tile_of_the_heuristic_s(
    library: Library,
) -> None:
    plans = [gemm._plan(rows, 28672, 4096, gemm.TILE) for rows in (4001, 6327, 8301)]
    assert [plan[1].tile for plan in plans if plan] == [gemm.TILE] * 3
    assert library.requested == [gemm.HEURISTIC_ROWS]


def test_rows_that_cublaslt_refuses_are_left_to_its_own_choice(library: Library) -> None:
    assert gemm._plan(library.refused, 28672, 4096, gemm.TILE) is None
    assert gemm._plan(library.refused + 1, 28672, 4096, gemm.TILE)


def test_where_the_heuristic_has_no_such_tile_nothing_is_planned(library: Library) -> None:
    library.heuristics_at = {}
    assert gemm._plan(4089, 6144, 4096, gemm.TILE) is None


@pytest.mark.parametrize(
    ("rows", "tile"),
    [
        (gemm.MIN_ROWS - 1, 31),
        (gemm.MIN_ROWS, gemm.RESIDUAL_TILE),
        (gemm.MIN_ROWS + 1, 32),
        (8301, gemm.RESIDUAL_TILE),
    ],
)
def test_residuals_of_many_rows_take_the_leaner_tile(library: Library, rows: int, tile: int) -> None:
    library.heuristics_at = {
        gemm.HEURISTIC_ROWS: [209, gemm.RESIDUAL_TILE],
        gemm.MIN_ROWS - 1: [31, gemm.RESIDUAL_TILE],
        # What cuBLASLt refuses leaves its own first choice.
        gemm.MIN_ROWS + 1: [32],
    }
    library.refused = gemm.MIN_ROWS + 1
    plan = gemm._residual_plan(rows, 4096, 14336)
    assert plan and plan[1].tile == tile


def test_residuals_without_that_tile_take_the_first_choice(library: Library) -> None:
    assert gemm.RESIDUAL_TILE not in library.heuristics_at[gemm.HEURISTIC_ROWS]
    plan = gemm._residual_plan(8301, 4096, 14336)
    assert plan and plan[1].tile == 502


def test_few_rows_are_torchs(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "scaled", lambda *given: "torch's")
    a, w = (
        SimpleNamespace(shape=(size, 4096), is_cuda=True, is_contiguous=lambda: True)
        for size in (gemm.MIN_ROWS - 1, 28672)
    )
    assert gemm._run(a, w, None, None) == "torch's"  # type: ignore[arg-type]
    assert library.requested == [], "cuBLASLt is asked for what is not used"
    assert gemm._plan(gemm.MIN_ROWS, 28672, 4096, gemm.TILE)


@pytest.mark.parametrize("rows", [5, gemm.MIN_ROWS + 3])
def test_without_that_choice_the_gemm_is_torchs(rows: int) -> None:
    torch.manual_seed(0)
    a, w = (torch.randn(size, 64).to(torch.float8_e4m3fn) for size in (rows, 96))
    scale_a, scale_w = torch.tensor([0.5]), torch.tensor([0.25])
    wanted = (a.float() * scale_a) @ (w.float() * scale_w).t()
    found = gemm._run(a, w, scale_a, scale_w)
    assert found.shape == gemm._fake(a, w, scale_a, scale_w).shape and found.dtype == torch.bfloat16
    assert float((found.float() - wanted).norm() / wanted.norm()) < 0.004


@pytest.mark.parametrize("with_residual", [False, True])
def test_cublaslt_is_given_every_operand(
    with_residual: bool, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gemm, "_fits", lambda *matrices: True)
    torch.manual_seed(0)
    a, w = (torch.randn(size, 64).to(torch.float8_e4m3fn) for size in (gemm.MIN_ROWS, 96))
    scale_a, scale_w = torch.tensor([0.5]), torch.tensor([0.25])
    wanted = (a.float() * scale_a) @ (w.float() * scale_w).t()
    if with_residual:
        residual = torch.randn(wanted.shape, dtype=torch.bfloat16)
        found, wanted = gemm._run_residual(a, w, scale_a, scale_w, residual), wanted + residual
    else:
        found = gemm._run(a, w, scale_a, scale_w)
    assert library.requested, "cuBLASLt is asked"
    assert float((found.float() - wanted).norm() / wanted.norm()) < 0.004
