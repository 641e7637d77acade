"""cuBLASLt's FP8 GEMM with a choice of its algorithms; torch always takes the heuristic's first.

Names and numbers of cublasLt.h (CUDA 13). The matrices are row-major here, so that cuBLASLt, which is
column-major, computes the transposed result: its A is the weight, its B the input.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

WORKSPACE_BYTES = 32 * 2**20
_COMPUTE_32F, _R_32F, _R_16BF, _R_8F_E4M3 = 68, 0, 14, 28
# Attributes of a matmul, of a preference and of an algorithm's configuration.
_TRANS_A, _A_SCALE, _B_SCALE, _FAST_ACCUM = 3, 17, 18, 25
_MAX_WORKSPACE = 1
_TILE = 1


class _Result(ctypes.Structure):
    _fields_ = [
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    ]


@lru_cache
def _library() -> ctypes.CDLL:
    # torch has loaded it already; the loader finds it again by name.
    return ctypes.CDLL(f"libcublasLt.so.{str(torch.version.cuda).split('.')[0]}")


def _call(name: str, *arguments: Any) -> None:
    if code := getattr(_library(), name)(*arguments):
        raise RuntimeError(f"{name}: cuBLAS error {code}")


@lru_cache
def _handle() -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    _call("cublasLtCreate", ctypes.byref(handle))
    return handle


@dataclass(frozen=True)
class Algorithm:
    """One that cuBLASLt's heuristic gives for a matmul."""

    result: _Result

    @property
    def tile(self) -> int:
        """Of cublasLtMatmulTile_t."""
        value, written = ctypes.c_uint32(), ctypes.c_size_t()
        buffer = (ctypes.byref(value), ctypes.c_size_t(ctypes.sizeof(value)), ctypes.byref(written))
        algorithm = ctypes.byref(self.result, _Result.algorithm.offset)
        _call("cublasLtMatmulAlgoConfigGetAttribute", algorithm, _TILE, *buffer)
        return value.value


class Matmul:
    """[rows, k] E4M3 times a weight [n, k] E4M3 to [rows, n] bf16, each with one scale."""

    def __init__(self, rows: int, n: int, k: int) -> None:
        self._desc = ctypes.c_void_p()
        _call("cublasLtMatmulDescCreate", ctypes.byref(self._desc), _COMPUTE_32F, _R_32F)
        self._set(_TRANS_A, ctypes.c_int32(1))
        self._set(_FAST_ACCUM, ctypes.c_int8(1))
        self._layouts = (
            _layout(_R_8F_E4M3, k, n),
            _layout(_R_8F_E4M3, k, rows),
            _layout(_R_16BF, n, rows),
        )

    def _set(self, attribute: int, value: Any) -> None:
        size = ctypes.c_size_t(ctypes.sizeof(value))
        _call("cublasLtMatmulDescSetAttribute", self._desc, attribute, ctypes.byref(value), size)

    def heuristics(self, count: int) -> list[Algorithm]:
        """At most `count` algorithms, the heuristic's favourite first."""
        preference, size = ctypes.c_void_p(), ctypes.c_uint64(WORKSPACE_BYTES)
        _call("cublasLtMatmulPreferenceCreate", ctypes.byref(preference))
        attribute = (preference, _MAX_WORKSPACE, ctypes.byref(size), ctypes.c_size_t(ctypes.sizeof(size)))
        _call("cublasLtMatmulPreferenceSetAttribute", *attribute)
        results, returned = (_Result * count)(), ctypes.c_int()
        w, a, out = self._layouts
        matrices = (_handle(), self._desc, w, a, out, out)
        _call("cublasLtMatmulAlgoGetHeuristic", *matrices, preference, count, results, ctypes.byref(returned))
        _call("cublasLtMatmulPreferenceDestroy", preference)
        return [Algorithm(_Result.from_buffer_copy(result)) for result in results[: returned.value]]

    def supports(self, algorithm: Algorithm) -> bool:
        """Whether cuBLASLt can run this matmul by `algorithm`, a heuristic's for other numbers of rows."""
        w, a, out = self._layouts
        result, algo = _Result(), ctypes.byref(algorithm.result, _Result.algorithm.offset)
        check = _library().cublasLtMatmulAlgoCheck
        refused: int = check(_handle(), self._desc, w, a, out, out, algo, ctypes.byref(result))
        return not refused and result.workspace <= WORKSPACE_BYTES

    def run(
        self,
        a: torch.Tensor,
        w: torch.Tensor,
        scale_a: torch.Tensor,
        scale_w: torch.Tensor,
        out: torch.Tensor,
        algorithm: Algorithm,
        workspace: torch.Tensor,
        residual: torch.Tensor | None = None,
    ) -> None:
        """`out` = `a` x `w` transposed x both scales (float32, on the GPU), on torch's current stream.

        `residual`, of the shape and kind of `out`, is added before the sum is rounded.
        """
        self._set(_A_SCALE, ctypes.c_void_p(scale_w.data_ptr()))
        self._set(_B_SCALE, ctypes.c_void_p(scale_a.data_ptr()))
        alpha, beta = ctypes.c_float(1.0), ctypes.c_float(0.0 if residual is None else 1.0)
        tensors = (w, a, out, workspace, out if residual is None else residual)
        w_at, a_at, out_at, space_at, residual_at = (ctypes.c_void_p(x.data_ptr()) for x in tensors)
        w_is, a_is, out_is = self._layouts
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        matrices = (w_at, w_is, a_at, a_is, ctypes.byref(beta), residual_at, out_is, out_at, out_is)
        space = (space_at, ctypes.c_size_t(workspace.numel()), stream)
        algo = ctypes.byref(algorithm.result, _Result.algorithm.offset)
        _call("cublasLtMatmul", _handle(), self._desc, ctypes.byref(alpha), *matrices, algo, *space)


def _layout(kind: int, rows: int, columns: int) -> ctypes.c_void_p:
    """Column-major and without gaps."""
    layout = ctypes.c_void_p()
    sizes = (ctypes.c_uint64(rows), ctypes.c_uint64(columns), ctypes.c_int64(rows))
    _call("cublasLtMatrixLayoutCreate", ctypes.byref(layout), kind, *sizes)
    return layout
