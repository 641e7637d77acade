"""The report of a tuning: every load tried, how near each came to a limit, and the answer."""

from __future__ import annotations

from .. import rules
from ..errors import PipelineError
from ..records.run_folder import RunFolder
from ..tune.records import EngineSearch, Probe, ScenarioTuning, Tuning
from . import tuning_charts
from .blocks import NOTHING, Block, Section, Table, Text, number

HEADS = ("run", "queries/s", "TTFT p99 ms", "TPOT p99 ms", "headroom", "LoadGen says", "seconds")


def sections(folder: RunFolder) -> tuple[Section, ...]:
    """One section where the run is a tuning, else none."""
    if not folder.is_tuning:
        return ()
    try:
        tuning = folder.read(Tuning)
    except PipelineError as error:
        return (Section("Tuning", (Text(str(error), "bad"),)),)
    blocks: list[Block] = []
    for name, search in tuning.scenarios.items():
        blocks += _scenario(name, search)
    if tuning.engine:
        blocks += _engine(tuning.engine)
    return (Section("Tuning", tuple(blocks or [Text("Nothing was tried yet.", "warn")])),)


def _scenario(name: str, search: ScenarioTuning) -> list[Block]:
    blocks: list[Block] = [_answer(name, search)] if search.ended else []
    limits_ms = rules.TOKEN_LATENCY_LIMITS_MS.get(name)
    if not limits_ms or not search.probes:
        return blocks
    rows = tuple(_row(probe, limits_ms) for probe in search.probes)
    note = "A probe is short: what it tells of a full-length run stands in tuning.json."
    if any(probe.member_qps is not None for probe in search.probes):
        note += " Probes before the first full-length run had one member alone, at its share of the load."
    blocks.append(Table(HEADS, rows, "lrrrrlr", f"Loads tried, {name}", note))
    return blocks + tuning_charts.charts(name, search, limits_ms)


def _row(probe: Probe, limits_ms: tuple[float, float]) -> tuple[str, ...]:
    headroom = probe.headroom_percent(limits_ms)
    return (
        probe.kind,
        number(probe.qps),
        number(probe.ttft_p99_ms, 1),
        number(probe.tpot_p99_ms, 2),
        NOTHING if headroom is None else f"{headroom:.1f}%",
        probe.outcome or NOTHING,
        number(probe.seconds, 0),
    )


def _answer(name: str, search: ScenarioTuning) -> Text:
    minutes = f"in {search.minutes} minutes"
    if search.answer is None:
        return Text(f"{name}: no VALID load was found {minutes}: {search.reason}", "bad")
    value = number(search.answer)
    if name == rules.SINGLE_STREAM:
        return Text(f"{name}: an answer takes {value} ms; measured {minutes}.", "good")
    if name == rules.OFFLINE:
        return Text(f"{name}: {value} samples/s in a short run; measured {minutes}.", "good")
    why = f" Beware: {search.reason}." if search.reason else ""
    return Text(f"{name}: {value} queries/s, confirmed VALID; found {minutes}.{why}", "good")


def _engine(search: EngineSearch) -> list[Block]:
    if not search.points:
        return []
    rows = tuple(
        (
            number(p.seats),
            number(p.tokens),
            number(p.samples_per_s),
            "kept" if p.point == search.best else "",
        )
        for p in search.points
    )
    heads = ("sequences", "tokens per step", "samples/s", "")
    return [Table(heads, rows, "rrrl", "Engine settings tried (short Offline runs)")]
