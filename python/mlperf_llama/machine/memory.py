"""Main memory: what is free, and whether the kernel has ended processes for want of it."""

from __future__ import annotations

from pathlib import Path

import psutil

_VMSTAT = Path("/proc/vmstat")


def memory_kills(vmstat: Path = _VMSTAT) -> int:
    """How many processes the kernel has ended for want of memory since it started; 0 where unknown."""
    try:
        counts = dict(line.split() for line in vmstat.read_text().splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def free_bytes() -> int:
    """What can be taken without swapping: the machine's, or less where a control group limits us."""
    free: int = psutil.virtual_memory().available
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        return min(free, limit - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return free
