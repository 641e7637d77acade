"""events.jsonl: one JSON object a line, and the same progress on the terminal.

Fields: time (ISO 8601, UTC), stage, done, total, unit, samples_per_s, tokens_per_s,
eta_s, message, gpu. `health` and outside tools read this file.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from . import codec
from .run_folder import RunFolder
from .schema import GpuReading

Listener = Callable[[dict[str, Any]], None]


class Events:
    """Appends events and passes each to its listeners (the terminal's bar is one)."""

    def __init__(
        self,
        run: RunFolder | None,
        *listeners: Listener,
        gpu: Callable[[], Sequence[GpuReading] | None] | None = None,
    ) -> None:
        self._stream = run.file("events.jsonl").open("a", encoding="utf-8") if run else None
        self._listeners = listeners
        self._gpu = gpu
        self._started: dict[str, float] = {}

    def emit(self, stage: str, **fields: Any) -> None:
        """One event. With `done` and `total` the ETA is worked out from the stage's start."""
        now = time.monotonic()
        started = self._started.setdefault(stage, now)
        done, total = fields.get("done"), fields.get("total")
        if done and total and "eta_s" not in fields and now > started:
            fields["eta_s"] = round((now - started) * (total - done) / done, 1)
        if done and self._gpu and (readings := self._gpu()):
            fields["gpu"] = codec.to_json(readings)
        event = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "stage": stage, **fields}
        if self._stream:
            self._stream.write(json.dumps(event, ensure_ascii=False) + "\n")
            self._stream.flush()
        for listener in self._listeners:
            listener(event)

    def close(self) -> None:
        if self._stream:
            self._stream.close()
