"""In place of hopper/cuda.py and a GPU: kernels are compiled for this CPU (cuda_on_cpu.cpp) and run here."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mlperf_llama.engine.hopper import kernels

COMPILER = shutil.which("g++")
SHIM = Path(__file__).with_name("cuda_on_cpu.cpp")
# A device function of a line or of several.
FUNCTION = re.compile(r"^__device__ [^\n]*\{(?:[^\n]*\}|\n.*?^\})\n", re.M | re.S)


class Card:
    """What is compiled is kept in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.multi_processor_count = folder, 4

    def compile_source(self, source: bytes, defines: Mapping[str, int], architecture: str) -> bytes:
        """The path of a library, where NVRTC gives a cubin."""
        assert architecture == "sm_90"
        # Those with PTX stand in the shim.
        text = FUNCTION.sub(lambda found: "" if "asm" in found[0] else found[0], source.decode())
        assert "asm" not in text
        if "decode_even(" not in text:
            text += "template <class... Any> void decode_even(Any...) {}\n"
        name = "-".join(map(str, (len(text), *defines.values())))
        kernels, library = self._folder / f"{name}.cu", self._folder / f"{name}.so"
        if not library.exists():
            kernels.write_text(text)
            command = [str(COMPILER), "-std=c++17", "-O1", "-w", "-shared", "-fPIC", f'-DKERNELS="{kernels}"']
            command += (f"-D{key}={value}" for key, value in defines.items())
            subprocess.run([*command, "-o", str(library), str(SHIM)], check=True)
        return str(library).encode()

    def load(self, library: bytes, names: Sequence[str]) -> dict[str, Any]:
        found = ctypes.CDLL(library.decode())
        return {name: partial(_launch, getattr(found, f"launch_{name}")) for name in names}


def _launch(function: Any, grid: tuple[int, int], threads: int, given: Sequence[Any]) -> None:
    function(*grid, threads, *map(_word, given))


def _word(given: torch.Tensor | int | float) -> Any:
    if isinstance(given, torch.Tensor):
        return ctypes.c_void_p(given.data_ptr())
    return ctypes.c_int(given) if isinstance(given, int) else ctypes.c_float(given)


@contextmanager
def card(folder: Path) -> Iterator[Card]:
    """While it lasts, kernels.py finds such a GPU."""
    made = Card(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "cuda", made)
        patch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        patch.setattr(torch.cuda, "get_device_properties", lambda device: made)
        yield made
    kernels._compiled.cache_clear()
    kernels._workspace.cache_clear()
