"""The card's power, clock and temperature while a point runs."""

from __future__ import annotations

import statistics
import threading

from mlperf_llama.machine import nvml
from mlperf_llama.records.schema import GpuReading

PERIOD_S = 0.25


class Power(threading.Thread):
    """Samples the first GPU until `stop`, which gives the means without the first and last fifth."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._end = threading.Event()
        self._readings: list[GpuReading] = []
        self._nvml = nvml.load()
        self._handle = self._nvml.nvmlDeviceGetHandleByIndex(0) if self._nvml else None
        if self._nvml:
            self.start()

    def run(self) -> None:
        while self._nvml and not self._end.wait(PERIOD_S):
            self._readings.append(nvml.read_one(self._nvml, self._handle))

    def stop(self) -> dict[str, int]:
        self._end.set()
        cut = len(self._readings) // 5
        middle = self._readings[cut : len(self._readings) - cut]
        keys = ("power_w", "sm_clock_mhz", "temperature_c")
        values = {key: [v for r in middle if (v := getattr(r, key)) is not None] for key in keys}
        return {key: round(statistics.mean(known)) for key, known in values.items() if known}
