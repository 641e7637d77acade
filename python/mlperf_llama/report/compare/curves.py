"""Both results' curves over each other: throughput over time, and the latencies by percentile."""

from __future__ import annotations

from ... import rules
from ..blocks import Chart, number
from ..charts import FEWEST_POINTS, PERCENTILES, TPOT_KEY, TTFT_KEY, percentiles
from ..plot import Series, limit_of_99th, plot
from .differences import shared_scenarios
from .sides import Group, Measured

COLOURS = {"A": "one", "B": "two"}


def charts(a: Group, b: Group) -> list[Chart]:
    """The charts of every scenario that both ran; of each the first repeat."""
    drawn: list[Chart | None] = []
    for name in shared_scenarios(a, b):
        drawn.append(_throughput(a, b, name))
        limits = rules.TOKEN_LATENCY_LIMITS_MS.get(name, (None, None))
        drawn.append(_latencies(a, b, name, "time to first token", TTFT_KEY, limits[0]))
        drawn.append(_latencies(a, b, name, "time per output token", TPOT_KEY, limits[1]))
    return [chart for chart in drawn if chart]


def _pairs(a: Group, b: Group, scenario: str) -> list[tuple[Group, Measured]]:
    return [(group, group.measured(scenario)[0]) for group in (a, b)]


def _throughput(a: Group, b: Group, scenario: str) -> Chart | None:
    series = [
        Series(group.title, measured.rates, COLOURS[group.letter])
        for group, measured in _pairs(a, b, scenario)
        if len(measured.rates) >= FEWEST_POINTS
    ]
    if not series:
        return None
    title = f"{scenario}: throughput over time"
    spans = "; ".join(
        f"{s.name} from {number(min(p[1] for p in s.points))} to {number(max(p[1] for p in s.points))}"
        for s in series
    )
    description = f"{title} in samples/s: {spans}."
    return Chart(title, plot(series, "samples/s", description), description)


def _latencies(
    a: Group, b: Group, scenario: str, name: str, pattern: str, limit: float | None
) -> Chart | None:
    series, listed = [], []
    for group, measured in _pairs(a, b, scenario):
        values = percentiles(measured.detail, pattern)
        if len(values) < FEWEST_POINTS:
            continue
        points = [(float(PERCENTILES.index(p)), ms) for p, ms in values]
        series.append(Series(group.title, points, COLOURS[group.letter]))
        listed.append(f"{group.letter} " + ", ".join(f"{p} {number(ms, 1)}" for p, ms in values))
    if not series:
        return None
    title = f"{scenario}: {name} by percentile"
    end = f"; limit of the 99th: {limit:g}" if limit else ""
    description = f"{title} in ms: {'; '.join(listed)}{end}."

    def label(at: float) -> str:
        return PERCENTILES[int(at)] if at == int(at) and int(at) < len(PERCENTILES) else ""

    drawn = plot(series, "ms", description, label, limit=limit_of_99th(limit))
    return Chart(title, drawn, description)
