"""The answer for the terminal: verdict, each scenario's figures, what stands against it."""

from __future__ import annotations

from .. import rules
from ..records.schema import Performance
from ..terminal.style import Style, plain
from . import answer
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
    performance, accuracy = run.scenarios[name].performance, run.scenarios[name].accuracy
    validity = performance.validity if performance else "not run"
    tone = {"VALID": "green", "INVALID": "red"}.get(validity, "yellow")
    parts = [f"{name:<12}", style.paint(f"{validity:<8}", tone)]
    lines = ["  " + " ".join([*parts, *(_figures(performance) if performance else [])])]
    if performance and performance.not_judged:
        lines.append(f"  {'':<12} {plain(performance.not_judged)}")
    if accuracy and accuracy.rouge1 is not None:
        scores = "  ".join(f"{key} {number(getattr(accuracy, key), 4)}" for key in rules.ROUGE_KEYS)
        lines.append(f"  {'':<12} {'accuracy':<8} {scores}")
    return lines


def render(run: Run, colour: bool) -> str:
    style = Style(colour=colour)
    banner = answer.banner(run)
    head = style.paint(banner.title.upper(), TONES[banner.tone])
    lines = ["", f"{style.paint('MLPerf Llama-3.1-8B', 'bold')}  {run.round}  {run.category}  {head}"]
    for name in run.scenarios:
        lines += _scenario(name, run, style)
    reasons = list(banner.lines) if banner.tone != "good" else []
    if not run.not_eligible():
        reasons += [f"{check.name}: {check.detail}. {check.fix}" for check in answer.failed_checks(run)]
    lines += [f"  {style.paint('-', TONES[banner.tone])} {plain(r)}" for r in reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        lines.append(f"  - and {len(reasons) - MOST_REASONS} more, in the report")
    lines.append(f"  {style.paint('report', 'dim')} {plain(str(run.path / 'report.html'))}")
    return "\n".join(lines)
