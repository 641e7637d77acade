"""Which algorithm an FP8 product takes. cuBLASLt needs a GPU: benchmarks/gpu/measure_products.py."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import products

pytestmark = pytest.mark.slow


class Library:
    """cuBLASLt as its callers see it: what it proposes, by the rows it is asked for, and what it refuses."""

    def __init__(self, proposed: dict[int, list[int]], refused: int = 0) -> None:
        self.proposed_at, self.refused = proposed, refused
        self.asked: list[int] = []

    def Product(self, rows: int, n: int, k: int) -> SimpleNamespace:
        def proposed(count: int) -> list[SimpleNamespace]:
            self.asked.append(rows)
            return [SimpleNamespace(tile=tile) for tile in self.proposed_at.get(rows, [502])]

        return SimpleNamespace(proposed=proposed, takes=lambda algorithm: rows != self.refused)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[Library]:
    found = Library({products.ASKED_ROWS: [209, products.TILE]}, refused=4195)
    monkeypatch.setattr(products.cublaslt, "Product", found.Product)
    yield found
    products._leaner.cache_clear()
    products._plan.cache_clear()
    products._sum_plan.cache_clear()


def test_every_number_of_rows_takes_the_tile_of_the_one_that_is_asked_for(library: Library) -> None:
    plans = [products._plan(rows, 28672, 4096, products.TILE) for rows in (4001, 6327, 8301)]
    assert [plan[1].tile for plan in plans if plan] == [products.TILE] * 3
    assert library.asked == [products.ASKED_ROWS]


def test_rows_that_cublaslt_refuses_are_left_to_its_own_choice(library: Library) -> None:
    assert products._plan(library.refused, 28672, 4096, products.TILE) is None
    assert products._plan(library.refused + 1, 28672, 4096, products.TILE)


def test_where_the_tile_is_not_proposed_nothing_is_planned(library: Library) -> None:
    library.proposed_at = {}
    assert products._plan(4089, 6144, 4096, products.TILE) is None


@pytest.mark.parametrize(
    ("rows", "tile"),
    [
        (products.MIN_ROWS - 1, 31),
        (products.MIN_ROWS, products.SUM_TILE),
        (products.MIN_ROWS + 1, 32),
        (8301, products.SUM_TILE),
    ],
)
def test_sums_of_many_rows_take_the_leaner_tile(library: Library, rows: int, tile: int) -> None:
    library.proposed_at = {
        products.ASKED_ROWS: [209, products.SUM_TILE],
        products.MIN_ROWS - 1: [31, products.SUM_TILE],
        # What cuBLASLt refuses leaves its own first choice.
        products.MIN_ROWS + 1: [32],
    }
    library.refused = products.MIN_ROWS + 1
    plan = products._sum_plan(rows, 4096, 14336)
    assert plan and plan[1].tile == tile


def test_sums_without_that_tile_take_the_first_choice(library: Library) -> None:
    assert products.SUM_TILE not in library.proposed_at[products.ASKED_ROWS]
    plan = products._sum_plan(8301, 4096, 14336)
    assert plan and plan[1].tile == 502


def test_few_rows_are_torchs(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "scaled", lambda *given: "torch's")
    a, w = (
        SimpleNamespace(shape=(size, 4096), is_cuda=True, is_contiguous=lambda: True)
        for size in (products.MIN_ROWS - 1, 28672)
    )
    assert products._run(a, w, None, None) == "torch's"  # type: ignore[arg-type]
    assert library.asked == [], "cuBLASLt is asked for what is not used"
    assert products._plan(products.MIN_ROWS, 28672, 4096, products.TILE)


@pytest.mark.parametrize("rows", [5, products.MIN_ROWS + 3])
def test_without_that_choice_the_product_is_torchs(rows: int) -> None:
    torch.manual_seed(0)
    a, w = (torch.randn(size, 64).to(torch.float8_e4m3fn) for size in (rows, 96))
    scale_a, scale_w = torch.tensor([0.5]), torch.tensor([0.25])
    wanted = (a.float() * scale_a) @ (w.float() * scale_w).t()
    found = products._run(a, w, scale_a, scale_w)
    assert found.shape == products._fake(a, w, scale_a, scale_w).shape and found.dtype == torch.bfloat16
    assert float((found.float() - wanted).norm() / wanted.norm()) < 0.004
