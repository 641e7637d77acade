"""What cuBLASLt is asked for. That it answers rightly: benchmarks/gpu/measure_gemm.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mlperf_llama.engine.hopper import cublaslt

pytestmark = pytest.mark.slow

ROWS, N, K = 3, 8, 16


@pytest.mark.parametrize("with_residual", [False, True])
def test_the_residual_goes_in_as_the_third_matrix(
    with_residual: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, tuple[Any, ...]] = {}
    monkeypatch.setattr(cublaslt, "_call", lambda name, *given: calls.update({name: given}))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=7))
    cublaslt._handle.cache_clear()
    a, w, out, residual = (torch.zeros(shape) for shape in ((ROWS, K), (N, K), (ROWS, N), (ROWS, N)))
    algorithm = cublaslt.Algorithm(cublaslt._Result())
    one, space = torch.ones(1), torch.zeros(64, dtype=torch.uint8)
    matmul = cublaslt.Matmul(ROWS, N, K)
    matmul.run(a, w, one, one, out, algorithm, space, residual if with_residual else None)
    cublaslt._handle.cache_clear()
    _, _, alpha, w_at, _, a_at, _, beta, residual_at, residual_is, out_at, out_is, *_ = calls[
        "cublasLtMatmul"
    ]
    assert (alpha._obj.value, beta._obj.value) == (1.0, 1.0 if with_residual else 0.0)
    assert (w_at.value, a_at.value, out_at.value) == (w.data_ptr(), a.data_ptr(), out.data_ptr())
    assert residual_at.value == (residual if with_residual else out).data_ptr()
    assert residual_is is out_is
