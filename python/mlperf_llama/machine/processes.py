"""Processes that this one started, and those that they started."""

from __future__ import annotations

import os
import signal

import psutil


def end_children() -> None:
    """Kill every process this one started; nothing of a run outlives it."""
    for child in psutil.Process(os.getpid()).children(recursive=True):
        try:
            if "resource_tracker" in " ".join(child.cmdline()):
                continue
            child.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
