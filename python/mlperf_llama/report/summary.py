"""The answer for the terminal: verdict, each scenario's figures, what stands against it."""

from __future__ import annotations

from .. import rules
from ..terminal.style import Style, plain
from . import answer
from .blocks import number
from .record import Record, mapping

TONES = {"good": "green", "bad": "red", "warn": "yellow"}
# More would push the answer off the screen; the report has all.
MOST_REASONS = 6


def _scenario(name: str, record: Record, style: Style) -> list[str]:
    found = record.scenarios[name]
    performance, accuracy = mapping(found.get("performance")), mapping(found.get("accuracy"))
    said = str(performance.get("loadgen_result") or "not run")
    tone = {"VALID": "green", "INVALID": "red"}.get(said, "yellow")
    parts = [f"{name:<12}", style.paint(f"{said:<8}", tone)]
    units = (
        ("samples_per_second", "samples/s", 2),
        ("tokens_per_second", "tok/s", 0),
        ("ttft_p99_ms", "ms TTFT p99", 0),
        ("tpot_p99_ms", "ms TPOT p99", 1),
        ("latency_p90_ms", "ms p90", 0),
    )
    for key, unit, digits in units:
        if isinstance(performance.get(key), int | float):
            parts.append(f"{number(float(performance[key]), digits):>9} {unit}")
    lines = ["  " + " ".join(parts)]
    scores = [f"{k} {number(accuracy[k], 4)}" for k in rules.ROUGE_KEYS if k in accuracy]
    if scores:
        lines.append(f"  {'':<12} {'accuracy':<8} {'  '.join(scores)}")
    return lines


def render(record: Record, colour: bool) -> str:
    style = Style(colour=colour)
    banner = answer.banner(record)
    head = style.paint(banner.title.upper(), TONES[banner.tone])
    lines = ["", f"{style.paint('MLPerf Llama-3.1-8B', 'bold')}  {record.round}  {record.category}  {head}"]
    for name in record.scenarios:
        lines += _scenario(name, record, style)
    reasons = list(banner.lines) if banner.tone != "good" else []
    if not record.not_eligible():
        reasons += [
            f"{c.get('name')}: {c.get('detail')}. {c.get('fix')}" for c in answer.failed_checks(record)
        ]
    lines += [f"  {style.paint('-', TONES[banner.tone])} {plain(r)}" for r in reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        lines.append(f"  - and {len(reasons) - MOST_REASONS} more, in the report")
    lines.append(f"  {style.paint('report', 'dim')} {record.path / 'report.html'}")
    return "\n".join(lines)
