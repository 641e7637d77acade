"""tuning.json: every probe, kept as soon as it has ended, so that a search can go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from ..records import seal
from ..records.run_folder import TUNING, RunFolder
from ..records.schema import absent
from .estimate import CONFIRM, Seen
from .forecast import Forecast, Goal
from .grid import Point
from .steadiness import contradicts


@dataclass(frozen=True)
class Probe:
    """One run at a load. `folder`: of its logs. With `error` it crashed, and the rest is absent.
    `member_qps`: the share of that load at which one member of several was measured, in place of all."""

    kind: str
    qps: float
    queries: int | None = absent()
    folder: str | None = absent()
    seconds: float | None = absent()
    error: str | None = absent()
    loadgen_result: str | None = absent()
    ttft_p99_ms: float | None = absent()
    tpot_p99_ms: float | None = absent()
    samples_per_second: float | None = absent()
    tokens_per_second: float | None = absent()
    preemptions: float | None = absent()
    forecast: Forecast | None = absent()
    finished: str | None = absent()
    reason: str | None = absent()
    member_qps: float | None = absent()

    @property
    def valid(self) -> bool:
        """LoadGen's word."""
        return self.loadgen_result == "VALID"

    def seen(self) -> Seen:
        """As the search reads it."""
        return Seen(self.kind, self.qps, self.forecast, self.valid)

    def headroom_percent(self, limits_ms: tuple[float, float]) -> float | None:
        """What is left to the nearer of the limits of TTFT and TPOT."""
        if self.ttft_p99_ms is None or self.tpot_p99_ms is None:
            return None
        return 100 * (1 - max(self.ttft_p99_ms / limits_ms[0], self.tpot_p99_ms / limits_ms[1]))

    @property
    def outcome(self) -> str | None:
        """LoadGen's result of a confirmation, or that it crashed."""
        if self.error:
            return "crashed"
        return self.loadgen_result if self.kind == CONFIRM else None


@dataclass(frozen=True)
class ScenarioTuning:
    """The search of one scenario. `minutes` is there once it has ended; an `answer` of None then
    says that no load was VALID. In queries/s; SingleStream in ms."""

    ttft_limit_ms: float | None = absent()
    tpot_limit_ms: float | None = absent()
    offline_qps: float | None = absent()
    probes: tuple[Probe, ...] | None = absent()
    answer: float | None = absent(until="minutes")
    reason: str | None = absent()
    minutes: float | None = absent()

    @property
    def ended(self) -> bool:
        return self.minutes is not None


@dataclass(frozen=True)
class MeasuredPoint:
    """A point of the engine's grid and its speed; 0 where it crashed."""

    seats: int
    tokens: int
    samples_per_s: float

    @property
    def point(self) -> Point:
        return Point(self.seats, self.tokens)


@dataclass(frozen=True)
class EngineSearch:
    """`members`: the points are of one member of so many, and all together reached `whole_samples_per_s` at
    the best one."""

    centre: Point | None = None
    points: tuple[MeasuredPoint, ...] = ()
    best: Point | None = absent()
    members: int | None = absent()
    whole_samples_per_s: float | None = absent()


@dataclass(frozen=True)
class Tuning:
    """`search`: what was asked for (qps, engine)."""

    FILE: ClassVar[str] = TUNING
    search: tuple[str, ...] = ()
    scenarios: dict[str, ScenarioTuning] = field(default_factory=dict)
    engine: EngineSearch | None = absent()


def begin(run: RunFolder, search: Sequence[str]) -> None:
    """Make a run folder a tuning's."""
    with seal.stage(run, "search"):
        run.write(Tuning(tuple(search)))


def scenario(run: RunFolder, name: str) -> ScenarioTuning:
    return run.read(Tuning).scenarios.get(name, ScenarioTuning())


def put(run: RunFolder, name: str, **changes: Any) -> None:
    """Replace fields of one scenario's record."""
    scenarios = run.read(Tuning).scenarios
    changed = replace(scenarios.get(name, ScenarioTuning()), **changes)
    run.update(Tuning, scenarios={**scenarios, name: changed})


def add_probe(run: RunFolder, name: str, probe: Probe) -> None:
    put(run, name, probes=(*(scenario(run, name).probes or ()), probe))


def history(probes: Sequence[Probe], goal: Goal) -> list[Seen]:
    """What counts in a search. One member's probes give way to runs of all members that contradict them: a
    queue that several share is another one."""
    whole = [probe.seen() for probe in probes if probe.member_qps is None]

    def counts(probe: Probe) -> bool:
        return probe.member_qps is None or not any(contradicts(w, probe.seen(), goal) for w in whole)

    return [probe.seen() for probe in probes if counts(probe)]


def next_folder(run: RunFolder, name: str) -> Path:
    """Where the next probe's logs go; a probe that was interrupted leaves its own behind."""
    number = 1
    while (folder := run.scenario(name) / "tuning" / f"probe_{number:02d}").exists():
        number += 1
    return folder
