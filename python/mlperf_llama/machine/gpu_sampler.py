"""How the GPUs run, read beside a run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType

from ..records.schema import Gpu, GpuReading
from . import nvml


class GpuSampler:
    """Reads these GPUs in a thread; `latest` is the events' `gpu` field, None where nothing can be read.

    The reading happens off the timed path: an event only picks up what is there.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        interval_s: float = 2.0,
        library: Callable[[], ModuleType | None] = nvml.load,
    ) -> None:
        self._gpus, self._interval_s, self._library = gpus, interval_s, library
        self._latest: list[GpuReading] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def latest(self) -> list[GpuReading] | None:
        return self._latest

    def start(self) -> GpuSampler:
        if self._gpus:
            self._thread = threading.Thread(target=self._run, name="gpu", daemon=True)
            self._thread.start()
        return self

    def _run(self) -> None:
        lib = self._library()
        if lib is None:
            return
        handles = [(gpu.index, nvml.handle_of(lib, gpu)) for gpu in self._gpus]
        readable = [(index, handle) for index, handle in handles if handle is not None]
        while readable and not self._stop.is_set():
            self._latest = [nvml.read_one(lib, handle, index) for index, handle in readable]
            self._stop.wait(self._interval_s)

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=5)

    def __enter__(self) -> GpuSampler:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
