"""The card's power, clock and temperature while a point runs."""

from __future__ import annotations

import statistics
import threading
from typing import Any

from mlperf_llama.machine import gpus

PERIOD_S = 0.25


class Power(threading.Thread):
    """Samples the first GPU until `stop`, which gives the means without the first and last fifth."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._end = threading.Event()
        self._rows: list[dict[str, Any]] = []
        self._nvml = gpus.nvml()
        if self._nvml:
            self.start()

    def run(self) -> None:
        while not self._end.wait(PERIOD_S):
            self._rows.append(gpus.read_one(self._nvml, 0))

    def stop(self) -> dict[str, Any]:
        self._end.set()
        cut = len(self._rows) // 5
        rows = self._rows[cut : len(self._rows) - cut]
        keys = ("power_w", "sm_clock_mhz", "temperature_c")
        values = {key: [row[key] for row in rows if row[key] is not None] for key in keys}
        return {key: round(statistics.mean(found)) for key, found in values.items() if found}
