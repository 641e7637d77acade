"""The environment that vLLM reads, and its import in a thread beside what a run does before the engine.

PyTorch, transformers and vLLM import each other's modules in circles, and a thread that meets a module half
made fails. So whoever begins the import has loaded the tokenizer before, and nobody asks for a further module
of theirs until `finish`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from ..machine.gpus import VISIBLE
from .hopper import cubins

# vLLM reads these once, at import. Nothing is reported to anyone, nothing is fetched.
_ENVIRONMENT = {
    # CUDA counts the GPUs as the driver does (machine/gpus.py).
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_LOGGING_COLOR": "0",
}
# Tokenizers read it at every call, and the run's prompts take all cores; it is for the engine's process.
_ENGINE_PROCESS = {"TOKENIZERS_PARALLELISM": "false"}


def prepare_import(cache_dir: Path, extra: Mapping[str, str]) -> None:
    """Set what vLLM and its compilers read, before the first import; the user's own values win."""
    caches = {
        "VLLM_CACHE_ROOT": str(cache_dir / "vllm"),
        "TRITON_CACHE_DIR": str(cache_dir / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(cache_dir / "inductor"),
        cubins.VARIABLE: str(cache_dir / "kernels"),
    }
    for name, value in {**_ENVIRONMENT, **caches, **extra}.items():
        os.environ.setdefault(name, value)
    # GPUS has chosen among those that the user's own value leaves.
    if VISIBLE in extra:
        os.environ[VISIBLE] = extra[VISIBLE]


def prepare_environment(cache_dir: Path, extra: Mapping[str, str]) -> None:
    """The same, and what the engine's process reads besides."""
    prepare_import(cache_dir, {**_ENGINE_PROCESS, **extra})


class BackgroundImport:
    """One import in a thread. What it raises is raised by `finish`, once."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def begin(self, load: Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(load,), name="import", daemon=True)
            self._thread.start()

    def _run(self, load: Callable[[], None]) -> None:
        try:
            load()
        except Exception as error:
            self._error = error

    def finish(self) -> None:
        """Wait for the end; nothing where none was begun."""
        self.wait(None)
        error, self._thread, self._error = self._error, None, None
        if error is not None:
            raise error

    def wait(self, timeout: float | None) -> None:
        """Wait so many seconds at most. Python must not end while libraries are being loaded."""
        if self._thread is not None:
            self._thread.join(timeout)


# A process imports vLLM once.
VLLM = BackgroundImport()
