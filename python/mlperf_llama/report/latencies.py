"""The report of a run's requests: distributions beside limits, percentiles, goodput, lengths, the worst."""

from __future__ import annotations

import numpy as np

from .. import rules
from ..records.schema import Performance
from . import charts, latency
from .bars import histogram
from .blocks import NOTHING, Block, Chart, Section, Table, Text, number
from .latency import TPOT, TTFT, WHOLE, Latencies, Values
from .plot import Line, Series, plot
from .run import Run
from .svg import label

TITLES = {
    TTFT: "time to first token (TTFT)",
    TPOT: "time per output token (TPOT)",
    WHOLE: "end-to-end latency",
}
# Fewer requests make no distribution.
FEWEST_REQUESTS = 20
WORST = 10
# A distribution that reaches further is drawn in seconds.
SECONDS_FROM_MS = 10_000
BINS = 30


def section(run: Run) -> tuple[Section, ...]:
    """One section where a performance run was made; empty without."""
    blocks: list[Block] = []
    for scenario, performed in run.scenarios.items():
        latencies = run.latencies.get(scenario)
        if latencies is not None and len(latencies.whole_ms) >= FEWEST_REQUESTS:
            blocks += _scenario(scenario, latencies, performed.performance)
        else:
            # Folders of before hold LoadGen's percentiles alone.
            blocks += charts.latencies(run, scenario)
    return (Section("Latencies", tuple(blocks)),) if blocks else ()


def _scenario(scenario: str, latencies: Latencies, performance: Performance | None) -> list[Block]:
    limits = rules.TOKEN_LATENCY_LIMITS_MS.get(scenario)
    blocks: list[Block] = []
    if limits:
        blocks += goodput(scenario, latencies, limits, performance)
    for name, values in latencies.kinds.items():
        limit = dict(zip((TTFT, TPOT), limits, strict=True)).get(name) if limits else None
        blocks.append(cdf(f"{scenario}: {TITLES[name]}, share of requests", values, limit))
    blocks.append(_percentiles(scenario, latencies, performance))
    lengths = {"prompt": latencies.requests.prompt_tokens, "answer": latencies.requests.answer_tokens}
    blocks += [_lengths(f"{scenario}: {name} lengths", values) for name, values in lengths.items()]
    return [*blocks, _worst(scenario, latencies, limits)]


def goodput(
    scenario: str, latencies: Latencies, limits: tuple[float, float], performance: Performance | None
) -> list[Block]:
    """How many requests kept both limits, and how many of them that is per second."""
    share = latency.within(latencies, limits)
    if share is None:
        return []
    seconds = performance.total_time_seconds if performance else None
    count = len(latencies.whole_ms) + latencies.unanswered
    rate = f", {number(share * count / seconds)} requests/s" if seconds else ""
    words = (
        f"Goodput of {scenario}: {100 * share:.2f}% of {number(count)} requests kept both limits "
        f"(TTFT {limits[0]:g} ms, TPOT {limits[1]:g} ms){rate}. The rules ask for 99% of each."
    )
    return [Text(words)]


def cdf(title: str, values: Values, limit: float | None) -> Chart:
    """The share of requests that took at most so long, with the limit drawn."""
    points = latency.distribution(values)
    tail = latency.percentile(values, 99.9)
    # The slowest few would press the rest to the left edge.
    shown = [point for point in points if point[0] <= max(tail, 1.05 * (limit or 0))]
    # Minutes of waiting are no milliseconds.
    size, unit = (1000, "s") if max(tail, limit or 0) > SECONDS_FROM_MS else (1, "ms")
    line = Line(limit / size, f"limit {limit / size:g} {unit}") if limit else None
    percentiles = ", ".join(f"p{p:g} {number(latency.percentile(values, p), 1)}" for p in latency.PERCENTILES)
    end = f"; limit of the 99th: {limit:g}" if limit else ""
    description = f"{title}: in ms {percentiles}, longest {number(float(values.max()), 1)}{end}."
    across = [(ms / size, percent) for ms, percent in ([(0.0, 0.0), *shown] if len(shown) < 2 else shown)]
    series = [Series("", across)]
    drawn = plot(series, "% of requests", description, lambda v: f"{label(v)} {unit}", limit_of_x=line)
    return Chart(title, drawn, description)


def _percentiles(scenario: str, latencies: Latencies, performance: Performance | None) -> Table:
    logged = {TTFT: performance and performance.ttft_p99_ms, TPOT: performance and performance.tpot_p99_ms}
    rows = tuple(
        (
            name,
            *(number(latency.percentile(values, p), 1) for p in latency.PERCENTILES),
            number(float(values.max()), 1),
            number(logged.get(name), 1),
        )
        for name, values in latencies.kinds.items()
    )
    heads = ("latency, ms", *(f"p{p:g}" for p in latency.PERCENTILES), "longest", "LoadGen's p99")
    note = (
        "By the clock of the process that holds the engine, from a request's arrival there; LoadGen's own "
        "figures, which decide, count from when it was due."
    )
    return Table(heads, rows, "l" + "r" * 7, f"{scenario}: percentiles", note)


def _lengths(title: str, values: np.ndarray[tuple[int], np.dtype[np.int32]]) -> Chart:
    low, high = int(values.min()), int(values.max())
    width = max(1, -(-(high - low + 1) // BINS))
    edges = np.arange(low, high + width + 1, width)
    counts = [int(n) for n in np.histogram(values, edges)[0]]
    description = (
        f"{title}: {low} to {high} tokens, {number(float(values.mean()), 1)} on average, "
        f"median {number(float(np.median(values)), 0)}."
    )
    return Chart(title, histogram(counts, [float(e) for e in edges], "tokens", description), description)


def _worst(scenario: str, latencies: Latencies, limits: tuple[float, float] | None) -> Table:
    requests = latencies.requests
    rows = tuple(
        (
            number(int(requests.sample[n])),
            number(float(requests.arrival_s[n]), 1),
            number(int(requests.prompt_tokens[n])),
            number(int(requests.answer_tokens[n])),
            NOTHING if latencies.ttft_ms is None else number(float(latencies.ttft_ms[n]), 1),
            NOTHING if latencies.tpot_ms is None else number(float(latencies.tpot_ms[n]), 1),
            number(float(latencies.whole_ms[n]), 1),
        )
        for n in latency.worst(latencies, limits, WORST)
    )
    heads = (
        "sample",
        "arrived at, s",
        "prompt tokens",
        "answer tokens",
        "TTFT ms",
        "TPOT ms",
        "end to end ms",
    )
    order = "Nearest to a limit, or furthest over it, first." if limits else "Longest first."
    return Table(heads, rows, "rrrrrrr", f"{scenario}: worst requests", order, folded=True)
