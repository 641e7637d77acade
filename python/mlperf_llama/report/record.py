"""Everything a run folder holds, read tolerantly: an absent or broken part leaves a gap, not an error."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import rules
from ..errors import PipelineError
from ..records.run_folder import RunFolder

Json = dict[str, Any]
PARTS = ("config", "system", "provenance", "results", "verdict")


@dataclass(frozen=True)
class Record:
    """One run as it lies on disk. `gaps` names what could not be read, with the reason."""

    path: Path
    config: Json
    system: Json
    provenance: Json
    results: Json
    verdict: Json
    events: tuple[Json, ...]
    logs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gaps: tuple[str, ...] = ()

    @property
    def scenarios(self) -> Mapping[str, Json]:
        """Results by scenario, in the benchmark's order; the asked ones appear even when empty."""
        found = mapping(self.results.get("scenarios"))
        asked = self.config.get("scenario") or []
        names = [s for s in rules.SCENARIOS if s in found or s in asked]
        names += [s for s in found if s not in names]
        return {name: mapping(found.get(name)) for name in names}

    @property
    def engine(self) -> Json:
        return mapping(self.results.get("engine"))

    @property
    def status(self) -> str:
        return str(self.results.get("status") or "unknown")

    @property
    def category(self) -> str:
        return str(self.results.get("category") or self.config.get("category") or rules.DATACENTER)

    @property
    def round(self) -> str:
        given = self.provenance.get("round") or self.results.get("round") or self.config.get("round")
        return str(given or "unknown round")

    @property
    def gpus(self) -> list[Json]:
        return [g for g in self.system.get("gpus") or [] if isinstance(g, dict)]

    @property
    def gpus_used(self) -> int:
        """GPUs the engine spread over, by its own settings; 0 without a GPU."""
        if not self.gpus:
            return 0
        settings = {**self.config, **mapping(self.engine.get("settings"))}
        tensor = settings.get("tensor_parallel_size") or settings.get("tensor_parallel") or 1
        copies = settings.get("data_parallel_size") or settings.get("data_parallel") or 1
        return min(int(tensor) * int(copies), len(self.gpus))

    def not_eligible(self) -> list[str]:
        """Why this can be no MLPerf result, whatever it scored; empty where nothing stands against it."""
        reasons = []
        if self.engine.get("name") == "fake" or self.config.get("engine") == "fake":
            reasons.append("The engine is the fake one: its answers and its speed are made up.")
        if self.config.get("ignore_eos"):
            reasons.append(
                f"Answers ran past their end tokens to {rules.MAX_NEW_TOKENS} tokens each (IGNORE_EOS): "
                "for speed alone."
            )
        for kind in ("model", "dataset"):
            part = mapping(self.provenance.get(kind))
            if not part.get("source"):
                reasons.append(f"No {kind} was served.")
            elif part.get("eligible") is not True:
                why = sentence(part.get("reason") or "not recorded as eligible")
                reasons.append(f"The {kind} ({part['source']}) is not eligible: {why}")
        if self.provenance.get("shortened"):
            reasons.append(self._shortened())
        return reasons

    def _shortened(self) -> str:
        count, full = self.provenance.get("samples"), rules.SAMPLE_COUNT.get(self.category)
        parts = [f"{count} of {full} samples"] if count and full and count < full else []
        seconds = self.provenance.get("duration_s")
        if seconds is not None and seconds < rules.MIN_DURATION_S:
            parts.append(f"{seconds:g} of {rules.MIN_DURATION_S:g} seconds")
        return f"The run was shortened{': ' + ', '.join(parts) if parts else ''}."


def sentence(text: object) -> str:
    """With a full stop at the end."""
    words = str(text).strip()
    return words if words.endswith((".", "!", "?")) else words + "."


def mapping(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def read_events(path: Path) -> tuple[Json, ...]:
    """The whole lines of events.jsonl, each with `at`, its time in seconds since the epoch."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    found = []
    for line in lines:
        try:
            event = json.loads(line)
            found.append({**event, "at": datetime.fromisoformat(event["time"]).timestamp()})
        except (ValueError, KeyError, TypeError):
            # The last line of a killed run may be cut.
            continue
    return tuple(found)


def _performance_log(run: RunFolder, scenario: str) -> Mapping[str, Any]:
    """LoadGen's own figures from its detail log; empty where the run has none."""
    folder = run.log_dir(scenario, "performance")
    if not (folder / "mlperf_log_detail.txt").is_file():
        return {}
    from ..loadgen import logs

    return dict(logs.read_detail(folder))


def read(run: RunFolder) -> Record:
    """Read every record of the run."""
    parts: dict[str, Json] = {}
    gaps: list[str] = []
    for name in PARTS:
        file = f"{name}.json"
        if not run.file(file).is_file():
            gaps.append(f"{file} is not there")
        try:
            parts[name] = run.read_or_empty(file)
        except PipelineError as error:
            parts[name] = {}
            gaps.append(str(error))
    events = read_events(run.file("events.jsonl"))
    record = Record(
        path=run.path,
        config=parts["config"],
        system=parts["system"],
        provenance=parts["provenance"],
        results=parts["results"],
        verdict=parts["verdict"],
        events=events,
    )
    found: dict[str, Mapping[str, Any]] = {}
    for scenario in record.scenarios:
        try:
            found[scenario] = _performance_log(run, scenario)
        except (PipelineError, ValueError, OSError) as error:
            gaps.append(f"{scenario}: LoadGen's detail log could not be read: {error}")
    return replace(record, logs=found, gaps=tuple(gaps))
