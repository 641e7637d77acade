"""What the process is at, for stages that count nothing: a note that anyone may leave, and a line that
shows it every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TextIO

from ..credentials import redaction
from ..records.files import tail
from . import background
from .stage import duration
from .style import plain

SILENT_S = 10.0
TAIL_BYTES = 4096
LONGEST_CHARS = 160
_state = {"note": ""}


def note(text: str) -> None:
    """What is being done now, such as "model.safetensors: 12 of 300 MB"; empty once it is over."""
    _state["note"] = text


def latest() -> str:
    return _shown(_state["note"])


def megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count < 1e9 else f"{count / 1e9:,.2f} GB"


def last_line(log: Path, start: int = 0) -> str:
    """The last line that was written behind byte `start` of a log; empty without one."""
    lines = tail(log, TAIL_BYTES, start)
    return _shown(next((line for line in reversed(lines) if line.strip()), ""))


def size_of(log: Path | None) -> int:
    with suppress(OSError):
        return log.stat().st_size if log else 0
    return 0


def _shown(text: str) -> str:
    line = plain(redaction.text(text))
    return line if len(line) <= LONGEST_CHARS else f"{line[: LONGEST_CHARS - 3]}..."


@contextmanager
def shown(name: str, stream: TextIO) -> Iterator[None]:
    """While the block runs, a line every ten seconds: the name, the latest note, the time."""
    started = time.monotonic()

    def tick(over: threading.Event) -> None:
        while not over.wait(SILENT_S):
            parts = [f"{datetime.now():%H:%M:%S}", name, latest()]
            elapsed = f"elapsed {duration(time.monotonic() - started)}"
            with suppress(OSError, ValueError):
                stream.write("  ".join(filter(None, [*parts, elapsed])) + "\n")
                stream.flush()

    note("")
    try:
        with background.beside(tick, "activity"):
            yield
    finally:
        note("")
