"""Which charts a run gets: throughput and GPU power over time, token latencies by percentile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from .. import rules
from .blocks import Chart, number
from .record import Json, Record
from .svg import Point, line_chart, percentile_chart

# Fewer readings than this make no curve.
FEWEST_POINTS = 4
PERCENTILES = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")
# LoadGen's names of the two token latencies, in nanoseconds (results.cc).
TTFT_KEY = "result_first_token_{}_percentile_latency_ns"
TPOT_KEY = "result_time_per_output_token_{}_percentile_ns"
RATES = (("tokens_per_s", "tokens/s"), ("samples_per_s", "samples/s"))


def by_stage(events: Sequence[Json]) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = defaultdict(list)
    for event in events:
        found[str(event.get("stage", ""))].append(event)
    return dict(found)


def series(events: Sequence[Json], key: str) -> list[Point]:
    """(seconds since the stage began, value) for every event that has the value."""
    if not events:
        return []
    start = events[0]["at"]
    return [(e["at"] - start, float(e[key])) for e in events if isinstance(e.get(key), int | float)]


def power(events: Sequence[Json]) -> list[Point]:
    """(seconds since the stage began, watts of all GPUs together)."""
    found = []
    for event in events:
        gpus = event.get("gpu")
        readings = [g.get("power_w") for g in gpus if isinstance(g, dict)] if isinstance(gpus, list) else []
        watts = [w for w in readings if isinstance(w, int | float)]
        if watts:
            found.append((event["at"] - events[0]["at"], float(sum(watts))))
    return found


def _curve(points: list[Point], unit: str, title: str) -> Chart | None:
    if len(points) < FEWEST_POINTS or max(v for _, v in points) <= 0:
        return None
    values = [v for _, v in points]
    words = f"{title}: from {number(min(values))} to {number(max(values))} {unit} in {len(points)} readings."
    return Chart(title, line_chart(points, unit, words), words)


def over_time(record: Record) -> list[Chart]:
    """A throughput curve for each stage that reported rates, and its power where a GPU told it."""
    charts: list[Chart | None] = []
    for stage, events in by_stage(record.events).items():
        rates = ((series(events, key), unit) for key, unit in RATES)
        best = next(((points, unit) for points, unit in rates if len(points) >= FEWEST_POINTS), None)
        if best is None:
            continue
        charts.append(_curve(*best, f"{stage}: throughput over time"))
        charts.append(_curve(power(events), "W", f"{stage}: power of all GPUs over time"))
    return [c for c in charts if c]


def _percentiles(log: Mapping[str, Any], pattern: str) -> list[tuple[str, float]]:
    found = []
    for name in PERCENTILES:
        value = log.get(pattern.format(name))
        if isinstance(value, int | float) and value >= 0:
            found.append((f"p{float(name):g}", value / 1e6))
    return found


def latencies(record: Record) -> list[Chart]:
    """First-token and per-token latency by percentile, next to the limit, as LoadGen logged them."""
    charts = []
    for scenario, log in record.logs.items():
        limits = rules.TOKEN_LATENCY_LIMITS_MS.get(scenario, (None, None))
        names = ("time to first token", "time per output token")
        for name, pattern, limit in zip(names, (TTFT_KEY, TPOT_KEY), limits, strict=True):
            values = _percentiles(log, pattern)
            if len(values) < FEWEST_POINTS:
                continue
            title = f"{scenario}: {name} by percentile"
            told = ", ".join(f"{p} {number(v, 1)}" for p, v in values)
            words = f"{title} in ms: {told}" + (f"; limit of the 99th: {limit:g}." if limit else ".")
            charts.append(Chart(title, percentile_chart(values, limit, "ms", words), words))
    return charts
