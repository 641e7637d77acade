"""Main memory: what is free, and whether the kernel has ended processes for want of it."""

from __future__ import annotations

from pathlib import Path

import psutil

_VMSTAT = Path("/proc/vmstat")
_GROUP = Path("/sys/fs/cgroup")


def memory_kills(vmstat: Path = _VMSTAT) -> int:
    """How many processes the kernel has ended for want of memory since it started; 0 where unknown."""
    try:
        counts = dict(map(str.split, _lines(vmstat)))
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def free_bytes(group: Path = _GROUP) -> int:
    """What can be taken without swapping: the machine's, or less where a control group limits us."""
    free: int = psutil.virtual_memory().available
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        kept = {name: int(count) for name, count in map(str.split, _lines(group / "memory.stat"))}
    except (OSError, ValueError):
        return free
    # Pages of files, weights among them, are given back; those of shared memory are not.
    return min(free, limit - used + kept.get("file", 0) - kept.get("shmem", 0))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
