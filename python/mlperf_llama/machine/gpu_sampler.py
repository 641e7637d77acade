"""How the GPUs run, read beside a run."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import ModuleType, TracebackType

from ..records.schema import Energy, Gpu, GpuReading
from . import energy, nvml

# Readings that are kept for the energy: ten hours of them.
MOST_READINGS = 36_000
# A driver that answers no reading for so long leaves the energy unmeasured.
LAST_READING_S = 5.0


class GpuSampler:
    """Reads these GPUs in a thread; `latest` is the events' `gpu` field, None where nothing can be read.

    The reading happens off the timed path: an event only picks up what is there.
    """

    def __init__(
        self,
        gpus: Sequence[Gpu],
        interval_s: float = 1.0,
        library: Callable[[], ModuleType | None] = nvml.load,
    ) -> None:
        self._gpus, self._interval_s, self._library = gpus, interval_s, library
        self._latest: list[GpuReading] | None = None
        self._power: deque[energy.PowerReading] = deque(maxlen=MOST_READINGS)
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
            at_s, joules = time.monotonic(), tuple(nvml.energy_j(lib, handle) for _, handle in readable)
            self._latest = [nvml.read_one(lib, handle, index) for index, handle in readable]
            watts = tuple(reading.power_w for reading in self._latest)
            self._power.append(energy.PowerReading(at_s, watts, joules))
            self._stop.wait(self._interval_s)

    def energy(self, begin_s: float, end_s: float) -> Energy | None:
        """What the GPUs drew between two moments of the monotonic clock; waits for the first reading after
        them. None where it was not measured, or not for every GPU."""
        deadline = time.monotonic() + LAST_READING_S
        while self._power and self._power[-1].at_s < end_s and time.monotonic() < deadline:
            time.sleep(self._interval_s / 20)
        readings = list(self._power)
        every = bool(readings) and len(readings[0].power_w) == len(self._gpus)
        return energy.between(readings, begin_s, end_s) if every else None

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
