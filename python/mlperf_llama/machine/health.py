"""Does the run still advance? Standard library only: Docker's HEALTHCHECK calls this often.

Reads the last events of events.jsonl and judges by their time stamps. A finished
run is healthy, also one that was interrupted or failed: nothing hangs there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ..records.files import JsonObject, object_or_empty, tail
from ..records.schema import RUNNING

MAX_SILENCE_S = 120.0
# Stages that may be silent longer: weights of 16 GB over a slow link, compilation, a
# queue that empties. The words are looked for in the stage's name.
PATIENCE = {"model": 15.0, "engine": 15.0, "load": 15.0, "warm": 15.0, "dataset": 5.0, "score": 5.0}
# What the run folder holds before the first event, and what the chain writes between events.
SIGNS_OF_LIFE = ("config.json", "provenance.json", "results.json")
TAIL_BYTES = 65536


def _now() -> datetime:
    return datetime.now(UTC)


def find_run(path: Path) -> Path | None:
    """The run folder: `path` itself, or `latest` in a results folder."""
    for folder in (path, path / "latest"):
        if (folder / "config.json").is_file():
            return folder
    return None


def last_event(path: Path) -> JsonObject | None:
    """The newest whole event with a time; a line that is being written is passed over."""
    for line in reversed(tail(path, TAIL_BYTES)):
        try:
            event = json.loads(line)
            datetime.fromisoformat(event["time"])
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
        if isinstance(event, dict):
            return event
    return None


def status(run: Path) -> str:
    return str(object_or_empty(run / "results.json").get("status", ""))


def _last_sign(run: Path, event: JsonObject | None) -> datetime | None:
    times = []
    if event:
        stamp = datetime.fromisoformat(str(event["time"]))
        times.append(stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC))
    for name in SIGNS_OF_LIFE:
        try:
            times.append(datetime.fromtimestamp((run / name).stat().st_mtime, UTC))
        except OSError:
            continue
    return max(times, default=None)


def allowance_s(stage: str, max_silence_s: float) -> float:
    """Seconds of silence the stage may take; before the first event the chain is at work."""
    name = stage.lower() or "model"
    return max_silence_s * max((factor for word, factor in PATIENCE.items() if word in name), default=1.0)


def check(
    path: Path, max_silence_s: float = MAX_SILENCE_S, now: Callable[[], datetime] = _now
) -> tuple[bool, str]:
    """(healthy, one line of reason) for a run folder, or for `latest` in a results folder."""
    run = find_run(path)
    if run is None:
        return False, f"{path}: no run folder here yet"
    state = status(run)
    if state not in ("", RUNNING):
        return True, f"{run.resolve().name}: the run has ended ({state})"
    event = last_event(run / "events.jsonl")
    seen = _last_sign(run, event)
    if seen is None:
        return False, f"{run.resolve().name}: nothing in it tells when it last advanced"
    stage = str((event or {}).get("stage", ""))
    allowed_s = allowance_s(stage, max_silence_s)
    silent_s = max(0.0, (now() - seen).total_seconds())
    text = f"{run.resolve().name}: stage {stage or 'starting'}, last sign of life {silent_s:.0f} s ago"
    if silent_s > allowed_s:
        return False, f"{text}; expected one within {allowed_s:.0f} s"
    return True, text
