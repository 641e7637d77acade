"""events.jsonl: one JSON object per line, and the same progress on the terminal.

`health` and outside tools read this file; schema.Event names the fields.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias, Unpack

from ..credentials import redaction
from .codec import to_json
from .run_folder import RunFolder
from .schema import Event, EventFields, MemberCounts

Listener: TypeAlias = Callable[[Event], None]
FILE = "events.jsonl"
# Sixty-four members take some 8 kB of the file.
MEMBERS_EVERY_S = 5.0


class Events:
    """Appends events and passes each to its listeners (the terminal's progress is one).

    `gpu` gives the latest readings of every GPU (schema.GpuReading), None where there is no GPU.
    `follow`: where a run has several members, they tell.
    """

    def __init__(
        self,
        run: RunFolder | None,
        *listeners: Listener,
        gpu: Callable[[], Sequence[object] | None] | None = None,
    ) -> None:
        self._stream = run.file(FILE).open("a", encoding="utf-8", errors="backslashreplace") if run else None
        self._listeners = listeners
        self._gpu = gpu
        self._members: Callable[[], list[MemberCounts]] | None = None
        self._members_due = 0.0
        self._started: dict[str, float] = {}

    def follow(self, gpu: Callable[[], Sequence[object]], members: Callable[[], list[MemberCounts]]) -> None:
        """The GPUs' readings, and how far each member is, from now on."""
        self._gpu, self._members = gpu, members

    def emit(self, stage: str, **fields: Unpack[EventFields]) -> None:
        """One event. With `done` and `total` the ETA is worked out from the stage's start."""
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        done, total = fields.get("done"), fields.get("total")
        if done and total and "eta_s" not in fields and now > started:
            fields["eta_s"] = round((now - started) * (total - done) / done, 1)
        if done and self._gpu and (readings := self._gpu()):
            fields["gpu"] = to_json(readings)
        if done is not None and self._members and now >= self._members_due:
            fields["members"] = self._members()
            self._members_due = now + MEMBERS_EVERY_S
        time_utc = datetime.now(UTC).isoformat(timespec="milliseconds")
        event: Event = redaction.data(Event(time=time_utc, stage=stage, **fields))
        if self._stream:
            self._stream.write(json.dumps(event, ensure_ascii=False) + "\n")
            self._stream.flush()
        for listener in self._listeners:
            listener(event)

    def close(self) -> None:
        if self._stream:
            self._stream.close()
