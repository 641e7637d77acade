"""In place of hopper/cuda.py and a GPU: kernels are compiled for this CPU (cuda_on_cpu.h) and run here."""

from __future__ import annotations

import ctypes
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mlperf_llama.engine.hopper import cuda, kernels

COMPILER = shutil.which("g++")
# By the architecture that a source is compiled for: what stands for its PTX.
SHIMS = {"sm_90": "kernels_on_cpu.cpp", "sm_90a": "fused_on_cpu.cpp"}
# A device function of a line or of several.
FUNCTION = re.compile(r"^(?:template [^\n]*)?__device__ [^{;]*\{(?:[^\n]*\}|\n.*?^\})\n", re.M | re.S)


class Grid(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("columns", "rows", "threads", "shared")]


class Card:
    """What is compiled is kept in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    source = staticmethod(cuda.source)

    def compile_source(self, source: bytes, defines: Mapping[str, int], architecture: str) -> bytes:
        """The path of a library, where NVRTC gives a cubin."""
        shim = Path(__file__).with_name(SHIMS[architecture])
        # Those with PTX stand in the shim, as does the memory that a launch asks for.
        text = FUNCTION.sub(lambda found: "" if "asm" in found[0] else found[0], source.decode())
        text = text.replace("extern __shared__ u8 shared_memory[];\n", "")
        assert "asm" not in text
        name = "-".join((architecture, *(f"{key}{value}" for key, value in defines.items())))
        kernels, library = self._folder / f"{name}.cu", self._folder / f"{name}.so"
        if not library.exists():
            kernels.write_text(text)
            command = [str(COMPILER), "-std=c++17", "-O1", "-w", "-Wno-psabi", "-shared", "-fPIC"]
            command += [f'-DKERNELS="{kernels}"']
            command += (f"-D{key}={value}" for key, value in defines.items())
            subprocess.run([*command, "-o", str(library), str(shim)], check=True)
        return str(library).encode()

    def load(self, library: bytes, name: str, shared: int = 0) -> Any:
        return partial(_launch, getattr(ctypes.CDLL(library.decode()), f"launch_{name}"), shared)

    def tensor_map(
        self, address: int, sizes: Sequence[int], strides: Sequence[int], box: Sequence[int]
    ) -> ctypes.Array[ctypes.c_char]:
        """As common_on_cpu.h reads it; within what the driver accepts."""
        rank = len(sizes)
        assert len(strides) + 1 == len(box) == rank <= 4
        assert all(size > 0 for size in sizes) and box[0] == 128 and all(0 < part <= 256 for part in box)
        assert not any(step % 16 for step in (address, *strides))
        padded = [*sizes, *[0] * (4 - rank), *box, *[0] * (4 - rank)]
        packed = struct.pack("<Qi8i4x3q", address, rank, *padded, *strides, *[0] * (4 - rank))
        return ctypes.create_string_buffer(packed, 128)


def _launch(function: Any, shared: int, grid: tuple[int, int], threads: int, given: Sequence[Any]) -> None:
    function.restype = ctypes.c_char_p
    failure = function(Grid(*grid, threads, shared), *map(_word, given))
    if failure:
        raise RuntimeError(failure.decode())


def _word(given: torch.Tensor | int | float | ctypes.Array[ctypes.c_char]) -> Any:
    if isinstance(given, torch.Tensor):
        return ctypes.c_void_p(given.data_ptr())
    if isinstance(given, ctypes.Array):
        return given
    return ctypes.c_int(given) if isinstance(given, int) else ctypes.c_float(given)


@contextmanager
def card(folder: Path, module: ModuleType = kernels) -> Iterator[None]:
    """While it lasts, `module` (kernels.py or fused.py) finds such a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "cuda", Card(folder))
        patch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        yield
    for held in vars(module).values():
        if hasattr(held, "cache_clear"):
            held.cache_clear()
