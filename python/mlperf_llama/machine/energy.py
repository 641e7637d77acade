"""Energy of the GPUs between two moments, out of readings of NVML. Pure.

NVML's energy counter (Volta and later) is taken where every GPU has it: it misses nothing between two
readings. Else the power readings are integrated. Either is what the cards report of themselves, for the
cards alone: no MLPerf Power, which measures the whole system at the wall.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..records.schema import Energy

COUNTER, POWER = "counter", "power"
Point = tuple[float, float]


@dataclass(frozen=True)
class PowerReading:
    """All GPUs at one moment of the monotonic clock: watts and the counter's joules of each, None where a
    GPU does not tell them."""

    at_s: float
    power_w: tuple[float | None, ...]
    energy_j: tuple[float | None, ...]


def between(readings: Sequence[PowerReading], begin_s: float, end_s: float) -> Energy | None:
    """The energy from `begin_s` to `end_s`; None where the readings do not cover that time."""
    readings = _around(readings, begin_s, end_s)
    if len(readings) < 2 or not readings[0].at_s <= begin_s < end_s <= readings[-1].at_s:
        return None
    seconds = end_s - begin_s
    counted, drawn = _counted(readings, begin_s, end_s), _drawn(readings)
    joules = _integral(drawn, begin_s, end_s) if counted is None and drawn else counted
    if joules is None:
        return None
    inside = [watts for at, watts in drawn if begin_s <= at <= end_s]
    return Energy(
        joules=round(joules, 3),
        seconds=round(seconds, 3),
        mean_w=round(joules / seconds, 3),
        peak_w=max(inside) if inside else None,
        gpus=len(readings[0].power_w),
        method=POWER if counted is None else COUNTER,
        interval_s=round((readings[-1].at_s - readings[0].at_s) / (len(readings) - 1), 3),
    )


def together(parts: Sequence[Energy]) -> Energy:
    """Of several hosts' GPUs over the same time. `peak_w`: of each host at its own moment, so at most."""
    peaks = [part.peak_w for part in parts if part.peak_w is not None]
    return Energy(
        joules=round(sum(part.joules for part in parts), 3),
        seconds=max(part.seconds for part in parts),
        mean_w=round(sum(part.mean_w for part in parts), 3),
        peak_w=round(sum(peaks), 3) if len(peaks) == len(parts) else None,
        gpus=sum(part.gpus for part in parts),
        method=COUNTER if all(part.method == COUNTER for part in parts) else POWER,
        interval_s=max(part.interval_s for part in parts),
    )


def _around(readings: Sequence[PowerReading], begin_s: float, end_s: float) -> Sequence[PowerReading]:
    """Those inside the time, and the nearest before and after it."""
    times = [reading.at_s for reading in readings]
    return readings[max(0, bisect_right(times, begin_s) - 1) : bisect_left(times, end_s) + 1]


def _counted(readings: Sequence[PowerReading], begin_s: float, end_s: float) -> float | None:
    """Joules by the counters; None where one is missing or ran backwards, as after a reset of the driver."""
    total = 0.0
    for gpu in range(len(readings[0].energy_j)):
        series = [(r.at_s, value) for r in readings if (value := r.energy_j[gpu]) is not None]
        if len(series) < len(readings) or any(b[1] < a[1] for a, b in pairwise(series)):
            return None
        total += _at(series, end_s) - _at(series, begin_s)
    return total


def _drawn(readings: Sequence[PowerReading]) -> list[Point]:
    """Watts of all GPUs together at every reading; empty where one is missing."""
    series = []
    for reading in readings:
        watts = [value for value in reading.power_w if value is not None]
        if len(watts) < len(reading.power_w):
            return []
        series.append((reading.at_s, sum(watts)))
    return series


def _at(series: Sequence[Point], at_s: float) -> float:
    """The value at a moment inside the series, on the straight line between its neighbours."""
    for (a_s, a), (b_s, b) in pairwise(series):
        if a_s <= at_s <= b_s:
            return a if b_s == a_s else a + (b - a) * (at_s - a_s) / (b_s - a_s)
    raise ValueError(f"{at_s} is outside the readings")


def _integral(series: Sequence[Point], begin_s: float, end_s: float) -> float:
    """Of watts over seconds, by trapezoids."""
    inside = [point for point in series if begin_s < point[0] < end_s]
    points = [(begin_s, _at(series, begin_s)), *inside, (end_s, _at(series, end_s))]
    return sum((b_s - a_s) * (a + b) / 2 for (a_s, a), (b_s, b) in pairwise(points))
