"""cuda.py without CUDA: what it asks of cuda-bindings. That a GPU does it: benchmarks/gpu/smoke_cuda.py."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from mlperf_llama.engine.hopper import cubins, cuda  # noqa: E402

pytestmark = pytest.mark.slow


class Code(int):
    """A result of cuda-bindings."""

    name = "CUDA_SOME_ERROR"


def test_arguments_have_the_types_of_the_kernels() -> None:
    tensor, tensor_map = torch.zeros(3), cuda.TensorMap()
    values, types = cuda.kernel_parameters([tensor_map, tensor, 7, 0.5])
    assert values == (tensor_map, tensor.data_ptr(), 7, 0.5)
    assert types == (None, ctypes.c_void_p, ctypes.c_int, ctypes.c_float)


def test_a_launch_asks_for_its_shared_memory_on_torch_s_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def call(*arguments: Any) -> tuple[Code]:
        calls.append(arguments)
        return (Code(0),)

    limit = SimpleNamespace(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES="limit")
    driver = SimpleNamespace(CUfunction_attribute=limit, cuFuncSetAttribute=call, cuLaunchKernel=call)
    monkeypatch.setattr(cuda, "_driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=9))
    cuda.Kernel("function", 2048)((3, 4), 128, [5])
    parameters = ((5,), (ctypes.c_int,))
    assert calls == [("function", "limit", 2048), ("function", 3, 4, 1, 128, 1, 1, 2048, 9, parameters, 0)]


def test_a_failure_has_the_call_and_the_code() -> None:
    with pytest.raises(RuntimeError, match=r"cuLaunchKernel: CUDA_SOME_ERROR \(700\)"):
        cuda._checked("cuLaunchKernel", (Code(700),))
    assert cuda._checked("cuModuleLoadData", (Code(0), "module")) == "module"


class Nvrtc:
    """A compiler whose cubin tells what it was given."""

    def __init__(self, version: tuple[int, int] = (13, 0), fails: bool = False) -> None:
        self.version, self.fails, self.compiled = version, fails, 0
        self.cubin = b""

    def nvrtcVersion(self) -> tuple[Code, int, int]:
        return (Code(0), *self.version)

    def nvrtcCreateProgram(self, source: bytes, *_: object) -> tuple[Code, bytes]:
        return Code(0), source

    def nvrtcCompileProgram(self, program: bytes, count: int, options: list[bytes]) -> tuple[Code]:
        assert count == len(options)
        self.compiled += 1
        self.cubin = b" ".join([program, *options])
        return (Code(6 if self.fails else 0),)

    def nvrtcGetCUBINSize(self, _program: bytes) -> tuple[Code, int]:
        return Code(0), len(self.cubin)

    def nvrtcGetCUBIN(self, _program: bytes, cubin: bytearray) -> tuple[Code]:
        cubin[:] = self.cubin
        return (Code(0),)

    def nvrtcGetProgramLogSize(self, _program: bytes) -> tuple[Code, int]:
        return Code(0), 9

    def nvrtcGetProgramLog(self, _program: bytes, log: bytearray) -> tuple[Code]:
        log[:] = b"line 1: x"
        return (Code(0),)

    def nvrtcDestroyProgram(self, _program: bytes) -> None:
        pass


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[Nvrtc], Nvrtc]]:
    monkeypatch.setenv(cubins.VARIABLE, str(tmp_path))

    def put(nvrtc: Nvrtc) -> Nvrtc:
        monkeypatch.setattr(cuda, "_nvrtc", lambda: nvrtc)
        cuda._compiler.cache_clear()
        return nvrtc

    yield put
    cuda._compiler.cache_clear()


def test_what_was_compiled_is_kept_for_the_next_start(use: Callable[[Nvrtc], Nvrtc]) -> None:
    first = use(Nvrtc())
    cubin = cuda.compile_source(b"source", {"A": 1}, "sm_90")
    assert cubin == b"source --gpu-architecture=sm_90 --std=c++17 -DA=1"
    second = use(Nvrtc())
    assert cuda.compile_source(b"source", {"A": 1}, "sm_90") == cubin
    assert (first.compiled, second.compiled) == (1, 0)
    for given in [
        (b"other", {"A": 1}, "sm_90"),
        (b"source", {"A": 2}, "sm_90"),
        (b"source", {"A": 1}, "sm_90a"),
    ]:
        assert cuda.compile_source(*given) != cubin
    assert second.compiled == 3
    newer = use(Nvrtc((13, 1)))
    assert cuda.compile_source(b"source", {"A": 1}, "sm_90") == cubin and newer.compiled == 1


def test_another_wheel_of_the_compiler_compiles_again(
    use: Callable[[Nvrtc], Nvrtc], monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    for patch in ("13.0.88", "13.0.96", None, "13.0.88"):
        monkeypatch.setattr(cuda, "_version", lambda wheel, patch=patch: patch)
        nvrtc = use(Nvrtc())
        cuda.compile_source(b"source", {}, "sm_90")
        compiled.append(nvrtc.compiled)
    assert compiled == [1, 1, 1, 0]
    monkeypatch.undo()
    assert cuda._version("torch") and cuda._version("no-such-wheel") is None


def test_a_source_with_a_fault_gives_the_compiler_s_log(use: Callable[[Nvrtc], Nvrtc]) -> None:
    use(Nvrtc(fails=True))
    with pytest.raises(RuntimeError, match="NVRTC: CUDA_SOME_ERROR: line 1: x"):
        cuda.compile_source(b"source", {}, "sm_90")
    assert use(Nvrtc()).compiled == 0
    assert cuda.compile_source(b"source", {}, "sm_90")


def test_a_tensor_map_is_encoded_where_the_driver_can_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[Any] = []

    def encode(
        address: int, kind: int, rank: int, memory: int, sizes: int, strides: int, *others: int
    ) -> int:
        box, steps, *layout = others

        def read(kind: Any, where: int, count: int) -> list[int]:
            return list((kind * count).from_address(where))

        dimensions = read(ctypes.c_uint64, sizes, rank), read(ctypes.c_uint64, strides, rank - 1)
        boxes = read(ctypes.c_uint32, box, rank), read(ctypes.c_uint32, steps, rank)
        encoded.extend((address, kind, memory, *dimensions, *boxes, layout))
        ctypes.memset(address, 0x5A, ctypes.sizeof(cuda.TensorMap))
        return 0

    class Enum:
        """An enumeration of cuda-bindings whose members are all 3."""

        def __getattr__(self, name: str) -> int:
            return 3

    class Driver:
        CUresult = Code

        def __getattr__(self, name: str) -> Enum:
            return Enum()

    monkeypatch.setattr(cuda, "_driver", Driver)
    monkeypatch.setattr(cuda, "_encode_tiled", lambda: encode)
    made = cuda.tensor_map(0x1000, (512, 7), (640,), (128, 16))
    address, *others = encoded
    assert address % 64 == 0 and bytes(made) == b"\x5a" * 128
    assert others == [3, 0x1000, [512, 7], [640], [128, 16], [1, 1], [3, 3, 3, 3]]
