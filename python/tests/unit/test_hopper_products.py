"""Which algorithm a wide FP8 product takes. cuBLASLt needs a GPU: benchmarks/gpu/measure_products.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("vllm")

from mlperf_llama.engine.hopper import products


def test_the_leaner_tile_is_taken_where_it_is_proposed() -> None:
    proposed = [SimpleNamespace(tile=tile) for tile in (209, 248, products.TILE, 23)]
    assert products.chosen(proposed) is proposed[2]  # type: ignore[arg-type]
    assert products.chosen(proposed[:2]) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("rows", [5, products.MIN_ROWS + 3])
def test_without_that_choice_the_product_is_torchs(rows: int) -> None:
    torch.manual_seed(0)
    a, w = (torch.randn(size, 64).to(torch.float8_e4m3fn) for size in (rows, 96))
    scale_a, scale_w = torch.tensor([0.5]), torch.tensor([0.25])
    wanted = (a.float() * scale_a) @ (w.float() * scale_w).t()
    found = products._run(a, w, scale_a, scale_w)
    assert found.shape == products._fake(a, w, scale_a, scale_w).shape and found.dtype == torch.bfloat16
    assert float((found.float() - wanted).norm() / wanted.norm()) < 0.004
