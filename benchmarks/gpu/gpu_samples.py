"""The GPU's power, clock, temperature and energy at 10 Hz, with the host's time of each reading."""

from __future__ import annotations

import threading
import time
from typing import Any

from mlperf_llama.machine import nvml

PERIOD_S = 0.1
# nvml.h: NVML_FI_DEV_POWER_INSTANT; nvmlDeviceGetPowerUsage is a mean over a second.
POWER_INSTANT = 186
COLUMNS = ("at", "power_w", "instant_w", "sm_clock_mhz", "temperature_c", "utilisation_percent", "reasons")


class GpuSamples(threading.Thread):
    """Reads the first GPU until `stop`; without NVML there is nothing to read."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._end = threading.Event()
        self._rows: list[list[float | None]] = []
        self._nvml: Any = nvml.load()
        self._handle = self._nvml.nvmlDeviceGetHandleByIndex(0) if self._nvml else None
        self._energy_mj = self._energy()
        if self._nvml:
            self.start()

    def run(self) -> None:
        while not self._end.wait(PERIOD_S):
            known = nvml.read_one(self._nvml, self._handle)
            self._rows.append(
                [
                    time.perf_counter(),
                    known.power_w,
                    self._instant(),
                    known.sm_clock_mhz,
                    known.temperature_c,
                    known.utilisation_percent,
                    self._reasons(),
                ]
            )

    def stop(self) -> dict[str, Any]:
        """All readings by column, and the joules spent (None where the card does not count them)."""
        self._end.set()
        if self.is_alive():
            self.join()
        last = self._energy()
        spent = None if last is None or self._energy_mj is None else (last - self._energy_mj) / 1000
        columns = {name: [row[n] for row in self._rows] for n, name in enumerate(COLUMNS)}
        return {"columns": columns, "energy_j": spent}

    def _energy(self) -> float | None:
        return self._maybe(lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def _instant(self) -> float | None:
        def read() -> float:
            value = self._nvml.nvmlDeviceGetFieldValues(self._handle, [POWER_INSTANT])[0]
            return float(value.value.uiVal) / 1000

        return self._maybe(read)

    def _reasons(self) -> float | None:
        """Bits of nvml.h: 4 the power cap, 32 the driver's thermal slowdown, 128 the board's power brake."""
        return self._maybe(lambda: self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))

    def _maybe(self, read: Any) -> float | None:
        try:
            return float(read()) if self._nvml else None
        except Exception:  # NVML raises whatever a card or driver does not support
            return None
