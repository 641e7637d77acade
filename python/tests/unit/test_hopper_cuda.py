"""cuda.py without CUDA: what it asks of cuda-bindings. That a GPU does it: benchmarks/gpu/smoke_cuda.py."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from mlperf_llama.engine.hopper import cuda  # noqa: E402

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
