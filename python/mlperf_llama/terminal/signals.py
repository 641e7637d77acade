"""INT and TERM become an exception, so that a stopped run is closed and marked."""

from __future__ import annotations

import os
import signal
from types import FrameType

from ..errors import Interrupted
from ..machine.processes import PR_SET_PDEATHSIG, prctl

STOPPING = (signal.SIGINT, signal.SIGTERM)


def _raise(number: int, _frame: FrameType | None) -> None:
    raise Interrupted(number)


def install() -> None:
    """Raise Interrupted, also where a shell started us in the background with INT ignored."""
    for number in STOPPING:
        signal.signal(number, _raise)


def end_with_parent() -> None:
    """TERM when the process that started this one is gone, however it ended: nobody waits for the result."""
    parent = os.getppid()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise Interrupted(signal.SIGTERM)


def ignore() -> None:
    """While closing: a second Ctrl-C must not break the closing."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
