"""A tuning as text: one line per probe, one table per run."""

from __future__ import annotations

from .. import rules
from ..records.run_folder import RunFolder
from .records import Probe, ScenarioTuning, Tuning

HEADS = ("scenario", "run", "queries/s", "TTFT p99 ms", "TPOT p99 ms", "headroom %", "verdict", "s")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def line(probe: Probe) -> str:
    """What one probe measured."""
    load = f"{probe.qps:g} queries/s"
    if probe.member_qps is not None:
        load += f", {probe.member_qps:g} of them on one member alone"
    if probe.error:
        return f"{load}: crashed: {probe.error}"
    outcome = f", {probe.outcome}" if probe.outcome else ""
    ttft, tpot = _number(probe.ttft_p99_ms, 0), _number(probe.tpot_p99_ms, 1)
    return f"{load}: TTFT p99 {ttft} ms, TPOT p99 {tpot} ms{outcome}"


def _row(name: str, probe: Probe, limits_ms: tuple[float, float]) -> tuple[str, ...]:
    return (
        name,
        probe.kind,
        _number(probe.qps, 2),
        _number(probe.ttft_p99_ms, 0),
        _number(probe.tpot_p99_ms, 1),
        _number(probe.headroom_percent(limits_ms), 1),
        probe.outcome or "-",
        _number(probe.seconds, 0),
    )


def render(run: RunFolder) -> str:
    """Every probe, then every answer."""
    scenarios = run.read(Tuning).scenarios
    cells = [
        _row(name, probe, rules.TOKEN_LATENCY_LIMITS_MS[name])
        for name, search in scenarios.items()
        if name in rules.TOKEN_LATENCY_LIMITS_MS
        for probe in search.probes or ()
    ]
    lines = []
    if cells:
        widths = [max(len(r[n]) for r in [HEADS, *cells]) for n in range(len(HEADS))]
        for row in [HEADS, *cells]:
            columns = zip(row, widths, range(len(row)), strict=True)
            lines.append("  ".join(c.ljust(w) if n < 2 else c.rjust(w) for c, w, n in columns))
    lines += [f"{n}: {_answer(n, s)} ({s.minutes:g} min)" for n, s in scenarios.items() if s.ended]
    return "\n".join(lines)


def _answer(name: str, search: ScenarioTuning) -> str:
    if search.answer is None:
        return f"no VALID load found; {search.reason or ''}"
    if name == rules.SINGLE_STREAM:
        return f"expected latency {search.answer:.4g} ms"
    unit = "samples/s" if name == rules.OFFLINE else "queries/s, confirmed VALID"
    why = f"; {search.reason}" if search.reason else ""
    return f"{search.answer:.4g} {unit}{why}"
