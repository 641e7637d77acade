"""The answer for the terminal: verdict, each scenario's figures, what stands against it."""

from __future__ import annotations

from ..bench import expectation
from ..records.schema import Performance, Verdict
from ..terminal.style import Style, plain
from ..verdict.check import nearest_first
from . import answer, outcome
from .blocks import number
from .run import Run

TONES = {"good": "green", "bad": "red", "warn": "yellow"}
# More would push the answer off the screen; the report has all.
MOST_REASONS = 6


def _figures(performance: Performance) -> list[str]:
    figures = (
        (performance.samples_per_second, "samples/s", 2),
        (performance.tokens_per_second, "tok/s", 0),
        (performance.ttft_p99_ms, "ms TTFT p99", 0),
        (performance.tpot_p99_ms, "ms TPOT p99", 1),
        (performance.latency_p90_ms, "ms p90", 0),
    )
    return [
        f"{number(float(value), digits):>9} {unit}" for value, unit, digits in figures if value is not None
    ]


def _scenario(name: str, run: Run, style: Style) -> list[str]:
    performance = run.scenarios[name].performance
    validity = performance.validity if performance else "not run"
    tone = {"VALID": "green", "INVALID": "red"}.get(validity, "yellow")
    parts = [f"{name:<12}", style.paint(f"{validity:<8}", tone)]
    lines = ["  " + " ".join([*parts, *(_figures(performance) if performance else [])])]
    return [*lines, *(f"    {plain(sentence)}" for sentence in sentences(name, run))]


def sentences(name: str, run: Run) -> list[str]:
    """What came of a scenario's runs, in words."""
    scenario = run.scenarios[name]
    texts = []
    if scenario.performance:
        asked = outcome.asked(run.logs.get(name, {}))
        texts.append(outcome.performance(name, scenario.performance, asked))
        if off := expectation.after(scenario.performance):
            texts.append(f"{name} {off}.")
    if scenario.accuracy and scenario.accuracy.rouge1 is not None:
        texts.append(outcome.accuracy(name, scenario.accuracy))
    if scenario.compliance:
        texts.append(outcome.compliance(name, scenario.compliance))
    return texts


def failed_checks(judged: Verdict) -> str:
    """Every failed check on a line, nearest to passing first."""
    failed = nearest_first(judged.checks)
    if not failed:
        return f"all {len(judged.checks)} checks passed"
    head = f"{len(failed)} of {len(judged.checks)} checks failed, the nearest to passing first:"
    return "\n".join([head, *(f"  {plain(f'{c.name}: {c.detail}. {c.fix}')}" for c in failed)])


def render(run: Run, colour: bool) -> str:
    style = Style(colour=colour)
    banner = answer.banner(run)
    head = style.paint(banner.title.upper(), TONES[banner.tone])
    lines = ["", f"{style.paint('MLPerf Llama-3.1-8B', 'bold')}  {run.round}  {run.category}  {head}"]
    for name in run.scenarios:
        lines += _scenario(name, run, style)
    reasons = list(banner.lines) if banner.tone != "good" else []
    if not run.not_eligible():
        failed = nearest_first(answer.checks(run))
        reasons += [f"{check.name}: {check.detail}. {check.fix}" for check in failed]
    lines += [f"  {style.paint('-', TONES[banner.tone])} {plain(r)}" for r in reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        lines.append(f"  - and {len(reasons) - MOST_REASONS} more, in the report")
    lines.append(f"  {style.paint('report', 'dim')} {plain(str(run.path / 'report.html'))}")
    return "\n".join(lines)
