"""A page of all run folders below a results folder: what each machine reached, over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .. import rules
from ..config import Config
from ..errors import PipelineError, UsageError
from ..records.files import write_text
from ..records.run_folder import RunFolder
from ..records.schema import Performance
from . import html, run
from .blocks import NOTHING, Banner, Block, Chart, Document, Section, Table, Text, number, word
from .plot import Mark, Series, plot
from .svg import Point

PAGE = "history.html"
HEADS = (
    "run",
    "round",
    "samples/s",
    "TTFT p99 ms",
    "TPOT p99 ms",
    "LoadGen says",
    "counts as a result",
    "engine",
)
DAY_S = 86400.0


@dataclass(frozen=True)
class Entry:
    """One scenario of one run."""

    run: run.Run
    machine: str
    scenario: str
    performance: Performance
    at: datetime


def write(results: Path) -> Path:
    """Write the page; its path. UsageError where there is no run with a speed."""
    document = build(results)
    path = results / PAGE
    write_text(path, html.render(document))
    return path


def build(results: Path) -> Document:
    """The page as data."""
    entries, unread = _entries(results)
    if not entries:
        raise UsageError(f"{results}: expected run folders with a measured speed, found none")
    machines = list(dict.fromkeys(entry.machine for entry in entries))
    sections = tuple(
        Section(machine, tuple(_machine([entry for entry in entries if entry.machine == machine])))
        for machine in machines
    )
    runs = len({entry.run.path for entry in entries})
    lines = tuple(unread) or (f"From {runs} run folder{'s' if runs > 1 else ''} on {_count(machines)}.",)
    title = f"{runs} run{'s' if runs > 1 else ''} with a measured speed"
    banner = Banner(title, lines, "warn" if unread else "good")
    return Document("History", str(results), banner, "", sections)


def _count(machines: Sequence[str]) -> str:
    return "one machine" if len(machines) == 1 else f"{len(machines)} machines"


def _entries(results: Path) -> tuple[list[Entry], list[str]]:
    """Every measured scenario, the oldest first; and a line for each folder that cannot be read."""
    entries, unread = [], []
    for path in sorted(results.iterdir()) if results.is_dir() else []:
        if path.is_symlink() or not (path / Config.FILE).is_file():
            continue
        try:
            here = run.read(RunFolder.open(path))
        except PipelineError as error:
            unread.append(f"{path.name} cannot be read: {error}")
            continue
        at = _time(here)
        for name, scenario in here.scenarios.items():
            if scenario.performance and at:
                entries.append(Entry(here, machine_of(here), name, scenario.performance, at))
    return sorted(entries, key=lambda entry: entry.at), unread


def _time(here: run.Run) -> datetime | None:
    try:
        return datetime.fromisoformat(here.results.started or "")
    except ValueError:
        return None


def machine_of(here: run.Run) -> str:
    """What ran: the GPUs in use, else the CPU."""
    if here.gpus and here.gpus_used:
        return f"{here.gpus_used} x {here.gpus[0].name}"
    return here.system.cpu.model or "an unknown CPU"


def _machine(entries: Sequence[Entry]) -> list[Block]:
    blocks: list[Block] = []
    for name in [s for s in rules.SCENARIOS if any(entry.scenario == s for entry in entries)]:
        chosen = [entry for entry in entries if entry.scenario == name]
        if len(chosen) > 1:
            blocks.append(_chart(name, chosen))
        rows = tuple(_row(entry) for entry in reversed(chosen))
        blocks.append(Table(HEADS, rows, "llrrrlll", name))
    return blocks or [Text("No speed was measured.", "warn")]


def _row(entry: Entry) -> tuple[str, ...]:
    measured, engine = entry.performance, entry.run.engine
    return (
        entry.run.path.name,
        entry.run.round,
        number(measured.samples_per_second),
        number(measured.ttft_p99_ms, 0),
        number(measured.tpot_p99_ms, 1),
        measured.loadgen_result,
        "no" if entry.run.not_eligible() else "yes",
        f"{word(engine.name)} {engine.version or NOTHING}",
    )


def _mark(point: Point, entry: Entry) -> Mark:
    valid = entry.performance.loadgen_result == "VALID"
    return Mark(*point, f"{entry.run.path.name}: {point[1]:g} samples/s", "good" if valid else "bad")


def _chart(scenario: str, entries: Sequence[Entry]) -> Chart:
    """Throughput over the days; green points are VALID, red ones are not."""
    start = entries[0].at
    points = [
        ((entry.at - start).total_seconds() / DAY_S, entry.performance.samples_per_second)
        for entry in entries
    ]
    marks = [_mark(point, entry) for point, entry in zip(points, entries, strict=True)]
    title = f"{scenario}: samples/s by day"
    rates = [y for _, y in points]
    description = (
        f"{title}: from {number(min(rates))} to {number(max(rates))} in {len(rates)} runs, "
        f"the last {number(rates[-1])}."
    )
    drawn = plot([Series("samples/s", points)], "samples/s", description, lambda day: f"day {day:g}", marks)
    return Chart(title, drawn, description)
