"""Over the time of each performance run: throughput, requests, TTFT, and what each GPU's readings say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import rules
from . import gpu_curves
from .blocks import Block, Chart, Folded, Section, number
from .charts import FEWEST_POINTS, throughput
from .events import TimedEvent, by_stage, last_run
from .latency import Latencies, Values
from .plot import Line, Series, limit_of_99th, plot
from .run import Run

# A run's time is cut into so many pieces.
PIECES = 120
# With fewer requests a piece of time has no percentile worth drawing.
FEWEST_IN_PIECE = 5


def section(run: Run) -> tuple[Section, ...]:
    """One section where any stage reported rates; what is no performance run is folded away."""
    stages = by_stage(run.events)
    blocks: list[Block] = []
    for scenario in run.scenarios:
        events = last_run(stages.pop(f"{scenario} performance", []))
        blocks += performance(scenario, events, run.latencies.get(scenario))
    others = [chart for stage, events in stages.items() for chart in _rates(stage, last_run(events))]
    if others:
        blocks.append(Folded("Accuracy, TEST06 and other stages", tuple(others)))
    return (Section("Timelines", tuple(blocks)),) if blocks else ()


def performance(scenario: str, events: Sequence[TimedEvent], latencies: Latencies | None) -> list[Chart]:
    """The charts of one performance run."""
    charts = _rates(scenario, events)
    if latencies is not None and len(latencies.whole_ms) >= FEWEST_POINTS:
        charts += _requests(scenario, latencies)
    for field, (name, unit) in gpu_curves.READINGS.items():
        charts += _chart(f"{scenario}: GPU {name} over time", unit, gpu_curves.series(events, field))
    return charts


def _rates(stage: str, events: Sequence[TimedEvent]) -> list[Chart]:
    rates = throughput(events) if events else None
    return _chart(f"{stage}: throughput over time", rates[1], [Series("", rates[0])]) if rates else []


def _requests(scenario: str, latencies: Latencies) -> list[Chart]:
    """Requests waiting and running, and TTFT by the time of arrival."""
    requests = latencies.requests
    end_s = float(requests.end_s.max())
    moments = np.linspace(0.0, end_s, 2 * PIECES)
    if latencies.ttft_ms is None:
        unfinished = _open(requests.arrival_s, requests.end_s, moments)
        return _chart(f"{scenario}: requests without an answer over time", "requests", [unfinished("", "k0")])
    waiting = _open(requests.arrival_s, requests.first_token_s, moments)("waiting for the first token", "k1")
    running = _open(requests.first_token_s, requests.end_s, moments)("running", "k0")
    charts = _chart(f"{scenario}: requests waiting and running over time", "requests", [running, waiting])
    line = limit_of_99th(rules.TOKEN_LATENCY_LIMITS_MS.get(scenario, (None,))[0])
    pieces = ttft_pieces(requests.arrival_s, latencies.ttft_ms, end_s)
    return charts + _chart(f"{scenario}: TTFT over time, by arrival", "ms", pieces, line)


def _open(begin_s: Values, end_s: Values, moments: Values) -> Callable[[str, str], Series]:
    """How many intervals are open at each moment."""
    begun = np.searchsorted(np.sort(begin_s), moments, side="right")
    ended = np.searchsorted(np.sort(end_s), moments, side="right")
    points = [(float(t), float(n)) for t, n in zip(moments, begun - ended, strict=True)]
    return lambda name, kind: Series(name, points, kind)


def ttft_pieces(arrival_s: Values, ttft_ms: Values, end_s: float) -> list[Series]:
    """The median and the longest TTFT of the requests that came in each piece of the time."""
    count = max(1, min(PIECES, len(ttft_ms) // FEWEST_IN_PIECE))
    places = np.minimum((arrival_s / max(end_s, 1e-9) * count).astype(int), count - 1)
    median, longest = [], []
    for piece in range(count):
        values = ttft_ms[places == piece]
        if len(values):
            middle = (piece + 0.5) * end_s / count
            median.append((middle, float(np.median(values))))
            longest.append((middle, float(values.max())))
    return [Series("median", median), Series("longest", longest, "k1")]


def _chart(title: str, unit: str, series: Sequence[Series], limit: Line | None = None) -> list[Chart]:
    series = [one for one in series if len(one.points) >= FEWEST_POINTS]
    if not series or max(v for one in series for _, v in one.points) <= 0:
        return []
    spans = []
    for one in series:
        values = [v for _, v in one.points]
        spans.append(f"{one.name} from {number(min(values))} to {number(max(values))} {unit}".strip())
    description = f"{title}: {', '.join(spans)} in {len(series[0].points)} readings."
    return [Chart(title, plot(series, unit, description, limit=limit), description)]
