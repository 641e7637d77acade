"""events.jsonl, read for the report: each event with its time in seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ..records import codec
from ..records.files import refuse_other_than_file
from ..records.schema import Event


@dataclass(frozen=True)
class TimedEvent:
    """One event. `at_s`: its time, in seconds since the epoch."""

    at_s: float
    event: Event


def read_events(path: Path) -> tuple[TimedEvent, ...]:
    """The whole lines of events.jsonl, none where it is absent; a line that is no event is passed over.

    UsageError where it is no file.
    """
    refuse_other_than_file(path)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    events = []
    for line in lines:
        try:
            event = codec.from_json(Event, json.loads(line))
            events.append(TimedEvent(datetime.fromisoformat(event["time"]).timestamp(), event))
        except (ValueError, KeyError, TypeError, RecursionError):
            # The last line of a killed run may be cut.
            continue
    return tuple(events)


def by_stage(events: Sequence[TimedEvent]) -> dict[str, list[TimedEvent]]:
    """The events of every stage, in order."""
    stages: dict[str, list[TimedEvent]] = {}
    for timed in events:
        stages.setdefault(timed.event["stage"], []).append(timed)
    return stages


def last_run(events: Sequence[TimedEvent]) -> list[TimedEvent]:
    """Those of a stage's last LoadGen run, which begins with nothing done: one that was too short, or was
    interrupted, ran again."""
    starts = [n for n, timed in enumerate(events) if timed.event.get("done") == 0]
    return list(events[starts[-1] :] if starts else events)
