"""The report of a tuning: every load tried, how near each came to a limit, and the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import rules
from ..errors import PipelineError
from ..records.files import read_object
from ..tune import records
from .blocks import NOTHING, Block, Chart, Section, Table, Text, number
from .svg import line_chart

HEADS = ("run", "queries/s", "TTFT p99 ms", "TPOT p99 ms", "headroom to the limit", "LoadGen says", "seconds")


def sections(folder: Path) -> tuple[Section, ...]:
    """One section where the run is a tuning, else none."""
    path = folder / records.FILE
    if not path.is_file():
        return ()
    try:
        tuning = read_object(path)
    except PipelineError as error:
        return (Section("Tuning", (Text(str(error), "bad"),)),)
    blocks: list[Block] = []
    for name, scenario in _mapping(tuning.get("scenarios")).items():
        blocks += _scenario(name, _mapping(scenario))
    blocks += _engine(_mapping(tuning.get("engine")))
    return (Section("Tuning", tuple(blocks or [Text("Nothing was tried yet.", "warn")])),)


def _scenario(name: str, search: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    if "answer" in search:
        blocks.append(_answer(name, search))
    limits = rules.TOKEN_LATENCY_LIMITS_MS.get(name)
    if not limits or not search.get("probes"):
        return blocks
    rows = records.rows(name, search, limits)
    cells = tuple(
        (
            row["kind"],
            number(row["qps"]),
            number(row["ttft_p99_ms"], 1),
            number(row["tpot_p99_ms"], 2),
            f"{row['margin_percent']:.1f}%" if row["margin_percent"] is not None else NOTHING,
            row["verdict"] or NOTHING,
            number(row["seconds"], 0),
        )
        for row in rows
    )
    note = "A probe is short: what it tells of a full-length run stands in tuning.json."
    blocks.append(Table(HEADS, cells, "lrrrrlr", f"Loads tried, {name}", note))
    points = sorted((r["qps"], 100 - r["margin_percent"]) for r in rows if r["margin_percent"] is not None)
    if len(points) >= 2:
        title = f"{name}: the worse p99 latency as a share of its limit, by load"
        description = f"{title}: " + ", ".join(f"{y:.0f}% at {x:g}/s" for x, y in points) + "."
        blocks.append(
            Chart(title, line_chart(points, "% of limit", description, lambda q: f"{q:g}/s"), description)
        )
    return blocks


def _answer(name: str, search: dict[str, Any]) -> Text:
    minutes = f"in {search.get('minutes')} minutes"
    if search["answer"] is None:
        return Text(f"{name}: no VALID load was found {minutes}: {search.get('reason')}", "bad")
    value = number(search["answer"])
    if name == rules.SINGLE_STREAM:
        return Text(f"{name}: an answer takes {value} ms; measured {minutes}.", "good")
    if name == rules.OFFLINE:
        return Text(f"{name}: {value} samples/s in a short run; measured {minutes}.", "good")
    return Text(f"{name}: {value} queries/s, confirmed VALID; found {minutes}.", "good")


def _engine(search: dict[str, Any]) -> list[Block]:
    points = [p for p in search.get("points") or [] if isinstance(p, dict)]
    if not points:
        return []
    best = search.get("best") or {}
    rows = tuple(
        (
            number(p["seats"]),
            number(p["tokens"]),
            number(p["samples_per_s"]),
            "kept" if (p["seats"], p["tokens"]) == (best.get("seats"), best.get("tokens")) else "",
        )
        for p in points
    )
    heads = ("sequences", "tokens per step", "samples/s", "")
    return [Table(heads, rows, "rrrl", "Engine settings tried (short Offline runs)")]


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
