"""What a run folder holds, read tolerantly: an absent or broken file leaves a named gap, not an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from .. import rules
from ..config import Config
from ..errors import MissingError, PipelineError
from ..loadgen import logs
from ..records import codec, requests
from ..records.events import FILE as EVENTS
from ..records.files import JsonObject
from ..records.run_folder import RunFolder
from ..records.schema import Gpu, LoadedEngine, Provenance, Provided, Results, Scenario, System, Verdict
from ..verdict import endpoint
from . import latency
from .events import TimedEvent, read_events
from .latency import Latencies

# The status of a folder without results.
UNKNOWN = "unknown"
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One run as it lies on disk. `gaps` names what could not be read, with the reason; a record that
    could not be read is an empty one, or None. By scenario: `logs`, LoadGen's detail log; `latencies`, those
    of the performance run's requests, where the folder holds them."""

    path: Path
    config: Config | None = None
    system: System = field(default_factory=System)
    provenance: Provenance = field(default_factory=Provenance)
    results: Results = field(default_factory=lambda: Results(status=UNKNOWN))
    verdict: Verdict | None = None
    events: tuple[TimedEvent, ...] = ()
    logs: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    latencies: Mapping[str, Latencies] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()

    @property
    def scenarios(self) -> dict[str, Scenario]:
        """Results by scenario, in the benchmark's order; the requested ones appear even when empty."""
        measured = self.results.scenarios
        requested = self.config.scenario if self.config else ()
        names = [s for s in rules.SCENARIOS if s in measured or s in requested]
        names += [s for s in measured if s not in names]
        return {name: measured.get(name, Scenario()) for name in names}

    @property
    def engine(self) -> LoadedEngine:
        return self.results.engine or LoadedEngine()

    @property
    def category(self) -> str:
        return self.results.category or (self.config.category if self.config else rules.DATACENTER)

    @property
    def round(self) -> str:
        configured = self.config.round if self.config else None
        return self.provenance.round or self.results.round or configured or "unknown round"

    @property
    def engine_settings(self) -> JsonObject:
        """The engine's own settings; what it did not report is as configured."""
        configured: JsonObject = codec.to_json(self.config) if self.config else {}
        return {**configured, **self.engine.settings}

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return self.system.gpus

    @property
    def gpus_used(self) -> int:
        """GPUs the engine spread over, by its own settings; 0 without a GPU."""
        members = self.provenance.members
        if members:
            return sum(len(member.gpus) for member in members)
        tensor = self._degree("tensor_parallel_size", "tensor_parallel")
        data = self._degree("data_parallel_size", "data_parallel")
        return min(tensor * data, len(self.gpus))

    def _degree(self, *names: str) -> int:
        values = (self.engine_settings.get(name) for name in names)
        return next((value for value in values if isinstance(value, int) and value > 0), 1)

    def not_eligible(self) -> list[str]:
        """Why this can be no MLPerf result, whatever it scored; empty where nothing stands against it."""
        reasons = []
        if self.engine.name == "fake" or (self.config and self.config.engine == "fake"):
            reasons.append("The engine is the fake one: its answers and its speed are made up.")
        if self.config and self.config.endpoints:
            why = endpoint.reason(self.provenance.endpoints or ())
            reasons.append(f"S{endpoint.NOT_A_RESULT[1:]}: {why}.")
        if self.config and self.config.ignore_eos:
            reasons.append(
                f"Answers ran past their end tokens to {rules.MAX_NEW_TOKENS} tokens each (IGNORE_EOS): "
                "for speed alone."
            )
        for kind, provided in (("model", self.provenance.model), ("dataset", self.provenance.dataset)):
            if provided is None or not provided.source:
                reasons.append(f"No {kind} was served.")
            elif provided.eligible is not True:
                reasons.append(_ineligible(kind, provided))
        articles = self.provenance.articles
        if articles is not None and articles.eligible is not True:
            reasons.append(_ineligible("calibration", articles))
        if self.provenance.shortened:
            reasons.append(self._shortened())
        return reasons

    def _shortened(self) -> str:
        count, full = self.provenance.samples, rules.SAMPLE_COUNT.get(self.category)
        parts = [f"{count} of {full} samples"] if count and full and count < full else []
        seconds = self.provenance.duration_s
        if seconds is not None and seconds < rules.MIN_DURATION_S:
            parts.append(f"{seconds:g} of {rules.MIN_DURATION_S:g} seconds")
        return f"The run was shortened{': ' + ', '.join(parts) if parts else ''}."


def _ineligible(kind: str, provided: Provided) -> str:
    reason = (provided.reason or "not recorded as eligible").strip()
    end = "" if reason.endswith((".", "!", "?")) else "."
    return f"The {kind} ({provided.source}) is not eligible: {reason}{end}"


def read(folder: RunFolder) -> Run:
    """Read every record of the run."""
    gaps: list[str] = []
    run = Run(
        path=folder.path,
        config=_part(folder, Config.FILE, folder.config, gaps),
        system=_part(folder, System.FILE, lambda: folder.read(System), gaps) or System(),
        provenance=_part(folder, Provenance.FILE, lambda: folder.read(Provenance), gaps) or Provenance(),
        results=_part(folder, Results.FILE, lambda: folder.read(Results), gaps) or Results(status=UNKNOWN),
        verdict=_part(folder, Verdict.FILE, lambda: folder.read(Verdict), gaps),
        events=_events(folder, gaps),
    )
    details = {scenario: _detail(folder, scenario, gaps) for scenario in run.scenarios}
    measured = {scenario: _latencies(folder, scenario, gaps) for scenario in run.scenarios}
    latencies = {scenario: values for scenario, values in measured.items() if values is not None}
    return replace(run, logs=details, latencies=latencies, gaps=tuple(gaps))


def _part(folder: RunFolder, name: str, read_it: Callable[[], T], gaps: list[str]) -> T | None:
    """One record of the folder; None, and a line in `gaps`, where it cannot be read."""
    if not folder.file(name).exists():
        gaps.append(f"{name} is not there")
        return None
    try:
        return read_it()
    except PipelineError as error:
        gaps.append(str(error))
        return None


def _events(folder: RunFolder, gaps: list[str]) -> tuple[TimedEvent, ...]:
    """The events of the run; none, and a line in `gaps`, where they cannot be read."""
    try:
        return read_events(folder.file(EVENTS))
    except PipelineError as error:
        gaps.append(str(error))
        return ()


def _latencies(folder: RunFolder, scenario: str, gaps: list[str]) -> Latencies | None:
    """None where the folder does not hold the requests, as older ones do not; a broken file is a gap."""
    try:
        return latency.of(requests.read(requests.path_in(folder.scenario(scenario))))
    except MissingError:
        return None
    except PipelineError as error:
        gaps.append(str(error))
        return None


def _detail(folder: RunFolder, scenario: str, gaps: list[str]) -> Mapping[str, object]:
    """LoadGen's own figures of the performance run; empty where there is none."""
    path = folder.log_dir(scenario, "performance")
    if not (path / logs.DETAIL).is_file():
        return {}
    try:
        return logs.read_detail(path)
    except (PipelineError, ValueError, OSError) as error:
        gaps.append(f"{scenario}: LoadGen's detail log could not be read: {error}")
        return {}
