"""Processes that this one started, and those that they started."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import IO

# A module as a process that imports nothing of the caller's: neither its folder nor its user's own packages.
MODULE_COMMAND = [sys.executable, "-P", "-s", "-m"]
# Where such a process finds this package, installed or not.
PACKAGE_FOLDER = Path(__file__).resolve().parents[2]
LAST_BYTES = 4096
# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def end_children() -> None:
    """Kill every process this one started; nothing of a run outlives it."""
    # The doctor, which imports this module, works where no package is installed yet.
    import psutil

    for child in psutil.Process(os.getpid()).children(recursive=True):
        try:
            if "resource_tracker" in " ".join(child.cmdline()):
                continue
            child.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue


def last_lines(output: IO[bytes], most: int) -> list[str]:
    """Of what a process printed into a file, without empty ones."""
    end = output.seek(0, os.SEEK_END)
    output.seek(max(0, end - LAST_BYTES))
    lines = [line.strip() for line in output.read().decode(errors="replace").splitlines()]
    return [line for line in lines if line][-most:]
