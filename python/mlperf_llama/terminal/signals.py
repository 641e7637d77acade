"""INT and TERM become an exception, so that a stopped run is closed and marked."""

from __future__ import annotations

import signal
from types import FrameType

from ..errors import Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


def install() -> None:
    """Raise Interrupted, also where a shell started us in the background with INT ignored."""
    for number in STOPPING:
        signal.signal(number, _raise)


def ignore() -> None:
    """While closing: a second Ctrl-C must not break the closing."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
