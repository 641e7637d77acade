"""What probes and confirmations say together: the load at which each limit would just hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .forecast import Forecast, Goal

PROBE, CONFIRM = "probe", "confirm"
# How the inverse of the time per token falls with the load, before two probes tell.
SLOPE, SLOPE_SPREAD = 2.0, 2.0


@dataclass(frozen=True)
class Seen:
    """One finished probe or confirmation. `forecast` None: it crashed. `valid`: LoadGen's word."""

    kind: str
    qps: float
    forecast: Forecast | None
    valid: bool = False

    @property
    def crashed(self) -> bool:
        return self.forecast is None


def holds(seen: Seen, goal: Goal) -> bool | None:
    """True or False where the bounds leave no doubt, else None. A confirmation leaves none."""
    f = seen.forecast
    if f is None:
        return None
    if seen.kind == CONFIRM:
        return seen.valid
    # What the full-length run's busier seconds would add.
    busier = (seen.qps / f.tpot_qps) ** SLOPE
    if f.ttft_ms.high <= goal.ttft_ms and f.tpot_ms.high * busier <= goal.tpot_ms:
        return True
    if f.ttft_ms.low > goal.ttft_ms or f.tpot_ms.low > goal.tpot_ms:
        return False
    return None


def ratio(seen: Seen, goal: Goal) -> float:
    assert seen.forecast
    return max(seen.forecast.ttft_ms.point / goal.ttft_ms, seen.forecast.tpot_ms.point / goal.tpot_ms)


def estimate(seen: Sequence[Seen], goal: Goal) -> float | None:
    """The highest load that holds both limits, as far as `seen` tells."""
    rows = with_forecast(seen)
    return min(ttft_load(rows), _tpot_load(rows, goal)) if rows else None


def with_forecast(seen: Sequence[Seen]) -> list[tuple[Seen, Forecast]]:
    return [(s, s.forecast) for s in seen if s.forecast is not None]


def ttft_load(rows: Sequence[tuple[Seen, Forecast]]) -> float:
    """The mean of the queues' own limits; those probed near their limit count most.

    Where a probe filled every seat, probes that left some tell nothing more: while a batch
    fills, a queue looks faster than it is.
    """
    if any(f.full for _, f in rows):
        rows = [(s, f) for s, f in rows if f.full or s.kind == CONFIRM]
    total = weight = 0.0
    for s, f in rows:
        distance = 0.0 if f.full else math.log(s.qps / f.ttft_qps.point)
        spread = math.log(f.ttft_qps.high / f.ttft_qps.low) / 2
        w = (5.0 if s.kind == CONFIRM else 1.0) / (distance**2 + spread**2 + 0.02**2)
        total, weight = total + w * math.log(f.ttft_qps.point), weight + w
    return math.exp(total / weight)


def _tpot_load(runs: Sequence[tuple[Seen, Forecast]], goal: Goal) -> float:
    """Where a straight line through 1 / TPOT against load crosses the limit.

    A batch that slows down by what it holds takes a / (1 - load / capacity) per step, so the
    inverse falls in a line. Runs near the limit count most; the slope starts from a guess
    that they soon outweigh.
    """
    rows = []
    for s, f in runs:
        speed = goal.tpot_ms / max(f.tpot_ms.point, 1e-9)
        spread = (f.tpot_ms.high - f.tpot_ms.low) / 2 / max(f.tpot_ms.point, 1e-9) * speed
        # With every seat taken the time per token grows no more.
        load = min(f.tpot_qps, f.ttft_qps.point) if f.full else f.tpot_qps
        rows.append((s.kind, load, speed, 1 / ((speed - 1) ** 2 + spread**2 + 0.03**2)))
    # Probes give the slope; full-length runs, once there are any, the height.
    level = [row for row in rows if row[0] == CONFIRM] or rows
    weight = sum(w for *_, w in level)
    x0 = sum(w * x for _, x, _, w in level) / weight
    y0 = sum(w * y for _, _, y, w in level) / weight
    prior = 1 / SLOPE_SPREAD**2
    across = sum(w * (x / x0 - 1) ** 2 for _, x, _, w in rows)
    rise = sum(w * (x / x0 - 1) * (y - y0) for _, x, y, w in rows)
    slope = (rise - prior * SLOPE * y0) / (across + prior)
    return max(x0 * (1 + (1 - y0) / min(slope, -0.5 * y0)), x0 / 4)
