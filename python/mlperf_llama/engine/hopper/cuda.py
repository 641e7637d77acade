"""CUDA source to callable kernels: NVRTC, which comes with torch, and the driver. No toolkit needed."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import torch

# A kernel's argument: a tensor gives its address, an int 32 bits, a float single precision, else its bytes.
Argument: TypeAlias = "torch.Tensor | int | float | ctypes.Array[ctypes.c_char]"
# CUtensorMap and numbers of cuda.h: bytes, 128 of a row at a time, swizzled alike, read from L2 in 256.
_MAP_BYTES, _UINT8, _SWIZZLE_128B, _L2_256B = 128, 0, 3, 3
_SHARED_LIMIT = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


@lru_cache
def _nvrtc() -> ctypes.CDLL:
    """NVRTC of torch's own CUDA packages, else the system's."""
    name = f"libnvrtc.so.{str(torch.version.cuda).split('.')[0]}"
    packages = importlib.util.find_spec("nvidia")
    roots = packages.submodule_search_locations if packages else None
    found = [path for root in roots or () for path in Path(root).rglob(name)]
    if not found:
        return ctypes.CDLL(name)
    # NVRTC opens its built-in functions by bare name: they must be loaded before.
    for part in found[0].parent.glob("libnvrtc-builtins.so.*"):
        ctypes.CDLL(str(part), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(found[0]))


@lru_cache
def _driver() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _check(code: int, what: str) -> None:
    if code:
        raise RuntimeError(f"CUDA driver: {what}: error {code}")


def source(*parts: str) -> bytes:
    """Files of this folder, one behind the other."""
    return b"".join(Path(__file__).with_name(part).read_bytes() for part in parts)


def compile_source(source: bytes, defines: Mapping[str, int], architecture: str) -> bytes:
    """A cubin for `architecture` (such as sm_90); RuntimeError with the compiler's log."""
    rtc = _nvrtc()
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    given = [f"--gpu-architecture={architecture}", "--std=c++17", *(f"-D{k}={v}" for k, v in defines.items())]
    options = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
    rtc.nvrtcCreateProgram(ctypes.byref(program), source, b"kernel.cu", 0, None, None)
    code = rtc.nvrtcCompileProgram(program, len(given), options)
    if code:
        rtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        rtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"NVRTC error {code}: {log.value.decode()}")
    rtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    cubin = ctypes.create_string_buffer(size.value)
    rtc.nvrtcGetCUBIN(program, cubin)
    rtc.nvrtcDestroyProgram(ctypes.byref(program))
    return cubin.raw


class Kernel:
    """One kernel of a loaded module; calling it puts it on torch's current stream.

    `shared`: bytes of shared memory that its launch asks for.
    """

    def __init__(self, function: ctypes.c_void_p, shared: int = 0) -> None:
        self._function, self._shared = function, shared
        if shared:
            _check(_driver().cuFuncSetAttribute(function, _SHARED_LIMIT, shared), "cuFuncSetAttribute")

    def __call__(self, grid: tuple[int, int], threads: int, arguments: Sequence[Argument]) -> None:
        values: list[ctypes.c_void_p | ctypes.c_int | ctypes.c_float | ctypes.Array[ctypes.c_char]] = []
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                values.append(ctypes.c_void_p(argument.data_ptr()))
            elif isinstance(argument, int):
                values.append(ctypes.c_int(argument))
            elif isinstance(argument, float):
                values.append(ctypes.c_float(argument))
            else:
                values.append(argument)
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        code = _driver().cuLaunchKernel(
            self._function, grid[0], grid[1], 1, threads, 1, 1, self._shared, stream, pointers, None
        )
        _check(code, "cuLaunchKernel")


def tensor_map(
    address: int, sizes: Sequence[int], strides: Sequence[int], box: Sequence[int]
) -> ctypes.Array[ctypes.c_char]:
    """How TMA reads bytes of several dimensions, a `box` at a time; what lies outside of `sizes` is zeros.

    The innermost dimension comes first; `strides` of the others are bytes, multiples of 16. A box is 128
    bytes wide.
    """
    memory = (ctypes.c_char * (_MAP_BYTES + 64))()
    # The driver writes to multiples of 64 alone.
    made = (ctypes.c_char * _MAP_BYTES).from_buffer(memory, -ctypes.addressof(memory) % 64)
    rank = len(sizes)
    extents = (ctypes.c_uint64 * rank)(*sizes), (ctypes.c_uint64 * (rank - 1))(*strides)
    boxes = (ctypes.c_uint32 * rank)(*box), (ctypes.c_uint32 * rank)(*[1] * rank)
    given = (_UINT8, rank, ctypes.c_void_p(address), *extents, *boxes)
    code = _driver().cuTensorMapEncodeTiled(made, *given, 0, _SWIZZLE_128B, _L2_256B, 0)
    _check(code, "cuTensorMapEncodeTiled")
    return made


def load(cubin: bytes, name: str, shared: int = 0) -> Kernel:
    """A cubin's kernel, in the current context."""
    torch.cuda.current_stream()
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    _check(_driver().cuModuleLoadData(ctypes.byref(module), cubin), "cuModuleLoadData")
    _check(_driver().cuModuleGetFunction(ctypes.byref(function), module, name.encode()), name)
    return Kernel(function, shared)
