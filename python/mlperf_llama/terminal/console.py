"""Keeps the terminal for progress: what libraries print goes to run.log.

vLLM, torch and LoadGen write to file descriptors 1 and 2 from several processes,
so the descriptors themselves are redirected, not only Python's streams.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from ..credentials import redaction
from ..errors import BrokeError
from ..records.files import tail
from . import background, outputs

FOLLOW_S = 0.2
_FAULT = re.compile(r"^(?:.*\s)?([A-Za-z_.]*(?:Error|Exception|Interrupt)): (.+)$")


@contextmanager
def captured(log: Path, follow: bool = False) -> Iterator[TextIO]:
    """Send descriptors 1 and 2 to `log`; yields the terminal (the old standard error). `follow`: what comes
    into the log is shown there too.

    Other processes write straight into the file, so secrets are overwritten in it at the end, and at the
    start what a killed run left.
    """
    redaction.scrub(log)
    _flush()
    out, err = os.dup(1), os.dup(2)
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    terminal = os.fdopen(os.dup(err), "w", encoding="utf-8", errors="replace")
    shown, following = outputs.tolerant(terminal), ExitStack()
    try:
        if follow:
            following.enter_context(_followed(log, shown))
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        yield shown
    finally:
        # The log may lie on a disk that is full: the descriptors go back all the same.
        _flush()
        following.close()
        shown.flush()
        os.dup2(out, 1)
        os.dup2(err, 2)
        for descriptor in (out, err, handle):
            os.close(descriptor)
        terminal.close()
        redaction.scrub(log)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, BrokeError):
            stream.flush()


@contextmanager
def _followed(log: Path, terminal: TextIO) -> Iterator[None]:
    """While the block runs, whole lines that are added to the log go to the terminal too."""
    stream = log.open("rb")
    stream.seek(0, os.SEEK_END)

    def copy(over: threading.Event) -> None:
        with stream:
            left, last = b"", False
            while not last:
                last = over.wait(FOLLOW_S)
                lines, sign, left = (left + stream.read()).rpartition(b"\n")
                text = (lines + sign + (left if last else b"")).decode("utf-8", "replace")
                if text:
                    terminal.write(redaction.visible(redaction.text(text.replace("\r", "\n"))))
                    terminal.flush()

    with background.beside(copy, "follow"):
        yield


def last_fault(log: Path, limit: int = 262_144, start: int = 0) -> str:
    """The last exception named in the log's tail, from byte `start` on, as `Type: message`; empty if there is
    none.

    A failing engine process prints its cause before the parent's own, vaguer exception:
    the first of the last traceback chain is what the user needs.
    """
    return fault_in(tail(log, limit, start))


def fault_in(lines: Iterable[str]) -> str:
    """The same of these lines."""
    faults = [m for line in lines if (m := _FAULT.match(line.strip()))]
    # "See root cause above", "See stack trace for root cause": what follows from another one.
    causes = [m for m in faults if "root cause" not in m.group(2).lower()]
    return f"{causes[-1].group(1)}: {causes[-1].group(2)}" if causes else ""
