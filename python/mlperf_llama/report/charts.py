"""Which charts a run gets: throughput and GPU power over time, token latencies by percentile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .. import rules
from .blocks import Chart, number
from .events import TimedEvent, by_stage
from .run import Run
from .svg import Point, line_chart, percentile_chart

# Fewer readings than this make no curve.
FEWEST_POINTS = 4
PERCENTILES = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")
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


def power(events: Sequence[TimedEvent]) -> list[Point]:
    """(seconds since the stage began, watts of all GPUs together)."""
    points = []
    for timed in events:
        readings = [gpu.get("power_w") for gpu in timed.event.get("gpu", [])]
        watts = [w for w in readings if w is not None]
        if watts:
            points.append((timed.at_s - events[0].at_s, sum(watts)))
    return points


def _curve(points: list[Point], unit: str, title: str) -> Chart | None:
    if len(points) < FEWEST_POINTS or max(v for _, v in points) <= 0:
        return None
    values = [v for _, v in points]
    span = f"from {number(min(values))} to {number(max(values))} {unit}"
    description = f"{title}: {span} in {len(points)} readings."
    return Chart(title, line_chart(points, unit, description), description)


def over_time(run: Run) -> list[Chart]:
    """A throughput curve for each stage that reported rates, and its power where a GPU reported it."""
    charts: list[Chart | None] = []
    for stage, events in by_stage(run.events).items():
        rates = throughput(events)
        if rates is None:
            continue
        charts.append(_curve(*rates, f"{stage}: throughput over time"))
        charts.append(_curve(power(events), "W", f"{stage}: power of all GPUs over time"))
    return [c for c in charts if c]


def percentiles(detail: Mapping[str, object], pattern: str) -> list[tuple[str, float]]:
    values = []
    for name in PERCENTILES:
        nanoseconds = detail.get(pattern.format(name))
        if isinstance(nanoseconds, int | float) and nanoseconds >= 0:
            values.append((f"p{float(name):g}", nanoseconds / 1e6))
    return values


def latencies(run: Run) -> list[Chart]:
    """First-token and per-token latency by percentile, next to the limit, as LoadGen logged them."""
    charts = []
    for scenario, detail in run.logs.items():
        limits = rules.TOKEN_LATENCY_LIMITS_MS.get(scenario, (None, None))
        names = ("time to first token", "time per output token")
        for name, pattern, limit in zip(names, (TTFT_KEY, TPOT_KEY), limits, strict=True):
            values = percentiles(detail, pattern)
            if len(values) < FEWEST_POINTS:
                continue
            title = f"{scenario}: {name} by percentile"
            listed = ", ".join(f"{p} {number(v, 1)}" for p, v in values)
            end = f"; limit of the 99th: {limit:g}." if limit else "."
            description = f"{title} in ms: {listed}{end}"
            charts.append(Chart(title, percentile_chart(values, limit, "ms", description), description))
    return charts
