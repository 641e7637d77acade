"""A search drawn: both latencies by load beside their limits, the throughput, and the load that was kept."""

from __future__ import annotations

from collections.abc import Sequence

from ..tune.estimate import CONFIRM
from ..tune.records import Probe, ScenarioTuning
from .blocks import Chart, number
from .plot import Line, Mark, Series, plot
from .svg import Point

# In a run far over capacity a wait says only how long the run was: what is higher is drawn here.
HIGHEST = 200.0


def charts(name: str, search: ScenarioTuning, limits_ms: tuple[float, float]) -> list[Chart]:
    """None where fewer than two loads were measured."""
    probes = sorted((p for p in search.probes or () if p.error is None), key=lambda p: p.qps)
    if len({p.qps for p in probes}) < 2:
        return []
    answer = Line(search.answer, f"kept: {search.answer:g}/s") if search.answer else None
    drawn = (_latencies(name, probes, limits_ms, answer), _throughput(name, probes, answer))
    return [chart for chart in drawn if chart]


def _share(value_ms: float | None, limit_ms: float) -> float | None:
    return None if value_ms is None else 100 * value_ms / limit_ms


def _load(qps: float) -> str:
    return f"{qps:g}/s"


def _latencies(
    name: str, probes: Sequence[Probe], limits_ms: tuple[float, float], answer: Line | None
) -> Chart | None:
    ttft, tpot = limits_ms
    shares = {
        f"TTFT p99 of {ttft:g} ms": [(p.qps, _share(p.ttft_p99_ms, ttft)) for p in probes],
        f"TPOT p99 of {tpot:g} ms": [(p.qps, _share(p.tpot_p99_ms, tpot)) for p in probes],
    }
    series = [
        Series(label, [(x, min(y, HIGHEST)) for x, y in points if y is not None], kind)
        for (label, points), kind in zip(shares.items(), ("one", "two"), strict=True)
    ]
    if not all(s.points for s in series):
        return None
    title = f"{name}: TTFT and TPOT as shares of their limits, by load"
    listed = "; ".join(
        f"{label}: " + ", ".join(f"{y:.0f}% at {_load(x)}" for x, y in points if y is not None)
        for label, points in shares.items()
    )
    kept = f"; {answer.text}" if answer else ""
    description = f"{title}: {listed}{kept}."
    marks = [mark for p in probes if (mark := _mark(p, limits_ms))]
    drawn = plot(series, "% of limit", description, _load, marks, Line(100, "limit"), answer, from_zero=False)
    return Chart(title, drawn, description)


def _mark(probe: Probe, limits_ms: tuple[float, float]) -> Mark | None:
    """A probe's point at the nearer limit: gray, a confirmation's in the colour of LoadGen's verdict."""
    headroom = probe.headroom_percent(limits_ms)
    if headroom is None:
        return None
    kind = "plain" if probe.kind != CONFIRM else "good" if probe.valid else "bad"
    says = f", LoadGen says {probe.loadgen_result}" if probe.kind == CONFIRM else ""
    text = f"{probe.kind} at {_load(probe.qps)}: {100 - headroom:.0f}% of the nearer limit{says}"
    return Mark(probe.qps, min(100 - headroom, HIGHEST), text, kind)


def _throughput(name: str, probes: Sequence[Probe], answer: Line | None) -> Chart | None:
    points: list[Point] = [(p.qps, p.samples_per_second) for p in probes if p.samples_per_second is not None]
    if len({x for x, _ in points}) < 2:
        return None
    title = f"{name}: completed samples/s by load"
    listed = ", ".join(f"{number(y)} at {_load(x)}" for x, y in points)
    description = f"{title}: {listed}."
    sent = Series("sent", [(x, x) for x, _ in points], "two")
    completed = Series("completed", points)
    return Chart(
        title,
        plot([sent, completed], "samples/s", description, _load, answer=answer, from_zero=False),
        description,
    )
