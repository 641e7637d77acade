"""Closes a run folder: complete, interrupted or failed, with the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from ..errors import Interrupted
from ..records.events import Events
from ..records.run_folder import RunFolder
from ..records.schema import INTERRUPTED, RUNNING


def close(run: RunFolder, status: str, message: str = "") -> None:
    """Mark an open run, inside a stage of the seal; one that is already closed stays as it is."""
    if not is_open(run):
        return
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run.merge("results.json", status=status, finished=now)
    events = Events(run)
    events.emit("end", status=status, message=message)
    events.close()


def is_open(run: RunFolder) -> bool:
    return bool(run.read_or_empty("results.json").get("status", RUNNING) == RUNNING)


@contextmanager
def on_interrupt(run: RunFolder) -> Iterator[None]:
    """Mark the folder interrupted when INT or TERM ends the block."""
    try:
        yield
    except Interrupted:
        close(run, INTERRUPTED)
        raise
