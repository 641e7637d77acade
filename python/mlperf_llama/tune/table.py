"""A tuning in words: one line a probe, one table a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import rules
from ..records.run_folder import RunFolder
from . import records

HEADS = ("scenario", "run", "queries/s", "TTFT p99 ms", "TPOT p99 ms", "room %", "verdict", "s")


def _number(value: Any, digits: int) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "-"


def line(record: Mapping[str, Any]) -> str:
    """What one probe found."""
    if record.get("error"):
        return f"{record['qps']:g} queries/s: crashed: {record['error']}"
    said = f", {record['loadgen_result']}" if record["kind"] == "confirm" else ""
    ttft, tpot = _number(record["ttft_p99_ms"], 0), _number(record["tpot_p99_ms"], 1)
    return f"{record['qps']:g} queries/s: TTFT p99 {ttft} ms, TPOT p99 {tpot} ms{said}"


def all_rows(run: RunFolder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, record in run.read_raw(records.FILE)["scenarios"].items():
        if name in rules.TOKEN_LATENCY_LIMITS_MS:
            found += records.rows(name, record, rules.TOKEN_LATENCY_LIMITS_MS[name])
    return found


def render(run: RunFolder) -> str:
    """Every probe, then every answer."""
    cells = [
        (
            row["scenario"],
            row["kind"],
            _number(row["qps"], 2),
            _number(row["ttft_p99_ms"], 0),
            _number(row["tpot_p99_ms"], 1),
            _number(row["margin_percent"], 1),
            row["verdict"] or "-",
            _number(row["seconds"], 0),
        )
        for row in all_rows(run)
    ]
    lines = []
    if cells:
        widths = [max(len(r[n]) for r in [HEADS, *cells]) for n in range(len(HEADS))]
        for row in [HEADS, *cells]:
            columns = zip(row, widths, range(len(row)), strict=True)
            lines.append("  ".join(c.ljust(w) if n < 2 else c.rjust(w) for c, w, n in columns))
    for name, record in run.read_raw(records.FILE)["scenarios"].items():
        if "answer" in record:
            lines.append(f"{name}: {_answer(name, record)} ({record['minutes']:g} min)")
    return "\n".join(lines)


def _answer(name: str, record: Mapping[str, Any]) -> str:
    if record["answer"] is None:
        return f"no VALID load found; {record.get('reason', '')}"
    if name == rules.SINGLE_STREAM:
        return f"expected latency {record['answer']:.4g} ms"
    words = "samples/s" if name == rules.OFFLINE else "queries/s, confirmed VALID"
    return f"{record['answer']:.4g} {words}"
