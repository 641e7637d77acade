"""CUDA source to callable kernels, through cuda-bindings: NVRTC, and the driver. No toolkit needed."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import torch

from . import cubins

_NVRTC_WHEELS = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu13", "nvidia-cuda-nvrtc-cu12")
_MAP_BYTES, _MAP_ALIGNMENT = 128, 64


class TensorMap(ctypes.Structure):
    """A CUtensorMap; made by `tensor_map`, where the driver can write it."""

    _fields_ = [("opaque", ctypes.c_char * _MAP_BYTES)]


# A kernel's argument: a tensor gives its address, an int 32 bits, a float single precision.
Argument: TypeAlias = "torch.Tensor | TensorMap | int | float"


@cache
def _driver() -> Any:
    # Not installed where no CUDA is; every other module loads without it.
    from cuda.bindings import driver

    return driver


@cache
def _nvrtc() -> Any:
    from cuda.bindings import nvrtc

    return nvrtc


def _checked(call: str, result: tuple[Any, ...]) -> Any:
    """What a call of cuda-bindings gives besides its code; RuntimeError where that is not 0."""
    code, *values = result
    if int(code):
        raise RuntimeError(f"CUDA: {call}: {code.name} ({int(code)})")
    return values[0] if values else None


def source(*parts: str) -> bytes:
    """Files of this folder, one behind the other."""
    return b"".join(Path(__file__).with_name(part).read_bytes() for part in parts)


def compile_source(source: bytes, defines: Mapping[str, int], architecture: str) -> bytes:
    """A cubin for `architecture` (such as sm_90), kept from before where it can be (cubins.py);
    RuntimeError with the compiler's log."""
    options = [
        f"--gpu-architecture={architecture}",
        "--std=c++17",
        *(f"-D{k}={v}" for k, v in defines.items()),
    ]
    return cubins.kept(cubins.key(source, options, _compiler()), lambda: _compile(source, options))


@cache
def _compiler() -> str:
    """NVRTC's version as it says itself, and its wheel's, which also tells patches apart."""
    code, *numbers = _nvrtc().nvrtcVersion()
    _checked("nvrtcVersion", (code,))
    wheels = [f"{name} {version}" for name in _NVRTC_WHEELS if (version := _version(name))]
    return " ".join(["NVRTC", *map(str, numbers), *wheels])


def _version(wheel: str) -> str | None:
    try:
        return metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return None


def _compile(source: bytes, options: Sequence[str]) -> bytes:
    nvrtc = _nvrtc()
    program = _checked("nvrtcCreateProgram", nvrtc.nvrtcCreateProgram(source, b"kernel.cu", 0, [], []))
    try:
        encoded = [option.encode() for option in options]
        (code,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
        if int(code):
            log = bytearray(_checked("nvrtcGetProgramLogSize", nvrtc.nvrtcGetProgramLogSize(program)))
            _checked("nvrtcGetProgramLog", nvrtc.nvrtcGetProgramLog(program, log))
            text = log.decode(errors="replace").rstrip("\0\n")
            raise RuntimeError(f"NVRTC: {code.name}: {text}")
        cubin = bytearray(_checked("nvrtcGetCUBINSize", nvrtc.nvrtcGetCUBINSize(program)))
        _checked("nvrtcGetCUBIN", nvrtc.nvrtcGetCUBIN(program, cubin))
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return bytes(cubin)


class Kernel:
    """One kernel of a loaded module; calling it puts it on torch's current stream.

    `shared`: bytes of shared memory that its launch asks for.
    """

    def __init__(self, function: Any, shared: int = 0) -> None:
        self._function, self._shared = function, shared
        if shared:
            limit = _driver().CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            _checked("cuFuncSetAttribute", _driver().cuFuncSetAttribute(function, limit, shared))

    def __call__(self, grid: tuple[int, int], threads: int, arguments: Sequence[Argument]) -> None:
        stream = torch.cuda.current_stream().cuda_stream
        size = (grid[0], grid[1], 1, threads, 1, 1, self._shared)
        result = _driver().cuLaunchKernel(self._function, *size, stream, kernel_parameters(arguments), 0)
        _checked("cuLaunchKernel", result)


def kernel_parameters(arguments: Sequence[Argument]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Values and their C types, as cuda-bindings takes a kernel's arguments; a structure has no type."""
    values: list[object] = []
    types: list[object] = []
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            values.append(argument.data_ptr())
            types.append(ctypes.c_void_p)
        else:
            values.append(argument)
            kind = ctypes.c_int if isinstance(argument, int) else ctypes.c_float
            types.append(None if isinstance(argument, TensorMap) else kind)
    return tuple(values), tuple(types)


@cache
def _encode_tiled() -> Any:
    """cuTensorMapEncodeTiled itself: the one of cuda-bindings writes into a Python object, whose memory
    is aligned to 16 bytes, and the driver refuses all but multiples of 64."""
    driver = _driver()
    name = b"cuTensorMapEncodeTiled"
    flags = int(driver.CUdriverProcAddress_flags.CU_GET_PROC_ADDRESS_DEFAULT)
    address = _checked("cuGetProcAddress", driver.cuGetProcAddress(name, 12000, flags)[:2])
    pointer, number = ctypes.c_void_p, ctypes.c_int
    types = [pointer, number, ctypes.c_uint32, *[pointer] * 5, *[number] * 4]
    return ctypes.CFUNCTYPE(number, *types)(address)


def tensor_map(address: int, sizes: Sequence[int], strides: Sequence[int], box: Sequence[int]) -> TensorMap:
    """How TMA reads bytes of several dimensions, a `box` at a time; what lies outside of `sizes` is zeros.

    The innermost dimension comes first; `strides` of the others are bytes, multiples of 16. A box is 128
    bytes wide, and swizzled by as many.
    """
    driver, rank = _driver(), len(sizes)
    memory = (ctypes.c_char * (_MAP_BYTES + _MAP_ALIGNMENT))()
    made = TensorMap.from_buffer(memory, -ctypes.addressof(memory) % _MAP_ALIGNMENT)
    extents = (ctypes.c_uint64 * rank)(*sizes), (ctypes.c_uint64 * (rank - 1))(*strides)
    boxes = (ctypes.c_uint32 * rank)(*box), (ctypes.c_uint32 * rank)(*[1] * rank)
    layout = (
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    kind = driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_UINT8
    arrays = (ctypes.addressof(array) for array in (*extents, *boxes))
    code = _encode_tiled()(ctypes.addressof(made), int(kind), rank, address, *arrays, *map(int, layout))
    _checked("cuTensorMapEncodeTiled", (driver.CUresult(code),))
    return made


def load(cubin: bytes, name: str, shared: int = 0) -> Kernel:
    """A cubin's kernel, in the current context."""
    torch.cuda.current_stream()
    module = _checked("cuModuleLoadData", _driver().cuModuleLoadData(cubin))
    return Kernel(_checked(name, _driver().cuModuleGetFunction(module, name.encode())), shared)
