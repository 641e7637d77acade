"""Throughput out of a run's events, and token latencies by LoadGen's own percentiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import rules
from .bars import percentile_chart
from .blocks import Chart, number
from .events import TimedEvent
from .run import Run
from .svg import Point

# Fewer readings than this make no curve.
FEWEST_POINTS = 4
# LoadGen's percentiles, by the names that are shown.
LOGGED = {f"p{float(name):g}": name for name in ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")}
PERCENTILES = tuple(LOGGED)
# LoadGen's names of the two token latencies, in nanoseconds (results.cc).
TTFT_KEY = "result_first_token_{}_percentile_latency_ns"
TPOT_KEY = "result_time_per_output_token_{}_percentile_ns"


def throughput(events: Sequence[TimedEvent]) -> tuple[list[Point], str] | None:
    """(seconds since the stage began, rate) for every event that has it, and the rate's unit: tokens
    where there are enough readings of them, else samples."""
    start_s = events[0].at_s
    tokens = [(e.at_s - start_s, e.event["tokens_per_s"]) for e in events if "tokens_per_s" in e.event]
    if len(tokens) >= FEWEST_POINTS:
        return tokens, "tokens/s"
    samples = sample_rates(events)
    return (samples, "samples/s") if len(samples) >= FEWEST_POINTS else None


def sample_rates(events: Sequence[TimedEvent]) -> list[Point]:
    """(seconds since the stage began, samples per second)."""
    start_s = events[0].at_s
    return [(e.at_s - start_s, e.event["samples_per_s"]) for e in events if "samples_per_s" in e.event]


def percentiles(detail: Mapping[str, object], pattern: str) -> list[tuple[str, float]]:
    """One of the token latencies in ms, by PERCENTILES, as far as LoadGen logged it."""
    values = []
    for name, logged in LOGGED.items():
        nanoseconds = detail.get(pattern.format(logged))
        if isinstance(nanoseconds, int | float) and nanoseconds >= 0:
            values.append((name, nanoseconds / 1e6))
    return values


def latencies(run: Run, scenario: str) -> list[Chart]:
    """First-token and per-token latency by percentile, next to the limit, as LoadGen logged them."""
    charts = []
    limits = rules.TOKEN_LATENCY_LIMITS_MS.get(scenario, (None, None))
    names = ("time to first token", "time per output token")
    for name, pattern, limit in zip(names, (TTFT_KEY, TPOT_KEY), limits, strict=True):
        values = percentiles(run.logs.get(scenario, {}), pattern)
        if len(values) < FEWEST_POINTS:
            continue
        title = f"{scenario}: {name} by percentile"
        listed = ", ".join(f"{p} {number(v, 1)}" for p, v in values)
        end = f"; limit of the 99th: {limit:g}." if limit else "."
        description = f"{title} in ms: {listed}{end}"
        charts.append(Chart(title, percentile_chart(values, limit, "ms", description), description))
    return charts
