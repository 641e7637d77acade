"""Ends a run folder: complete, interrupted or failed, with the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from ..credentials import redaction
from ..errors import Interrupted
from ..records.events import Events
from ..records.run_folder import RunFolder
from ..records.schema import INTERRUPTED, RUNNING, Results


def finalize_run(run: RunFolder, status: str, message: str = "") -> None:
    """Set the status of an open run, inside a stage of the seal; one that has ended stays as it is."""
    redaction.scrub(run.file("run.log"))
    if not is_open(run):
        return
    run.update(Results, status=status, finished=datetime.now(UTC).isoformat(timespec="seconds"))
    events = Events(run)
    events.emit("end", status=status, message=message)
    events.close()


def is_open(run: RunFolder) -> bool:
    return run.read_or_new(Results).status == RUNNING


@contextmanager
def on_interrupt(run: RunFolder) -> Iterator[None]:
    """Mark the folder interrupted when INT or TERM ends the block."""
    try:
        yield
    except Interrupted:
        finalize_run(run, INTERRUPTED)
        raise
