"""What lies in a run folder: the files that a verdict rests on, and what is no file of its own.

Nothing is followed out of the folder: a link, a pipe or a device is named, and never read.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from .files import digest
from .schema import Seal

# Still growing, or written from the sealed files: nothing is judged by them. Hidden files are ours
# while they are written (files.atomic), or the lock.
UNSEALED = (
    *(Seal.FILE, f"{Seal.FILE}.sig", f"{Seal.FILE}.minisig"),
    *("events.jsonl", "run.log", "verdict.json", "report.md", "report.html", "results.csv"),
)
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _entries(root: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Relative path, path and status of everything that is no folder, in a fixed order."""
    for folder, folders, files in os.walk(root):
        for name in sorted([*folders, *files]):
            path = Path(folder) / name
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode) and not name.startswith("."):
                yield path.relative_to(root).as_posix(), path, status


def hashes(root: Path, under: tuple[str, ...] = ()) -> dict[str, str]:
    """Relative path -> SHA-256 of every file a verdict rests on; with `under`, of those alone."""
    return {
        name: digest(path)
        for name, path, status in _entries(root)
        if stat.S_ISREG(status.st_mode) and name not in UNSEALED and (not under or is_under(name, under))
    }


def is_under(name: str, paths: tuple[str, ...]) -> bool:
    """Whether a file is one of `paths`, or in one of them."""
    return any(name == path or name.startswith(f"{path}/") for path in paths)


def foreign(root: Path) -> list[str]:
    """What the folder does not hold itself, in words: links, pipes, sockets, devices."""
    lines = []
    entries = list(_entries(root))
    names_of = Counter((status.st_dev, status.st_ino) for _, _, status in entries)
    for name, path, status in entries:
        kind = KINDS.get(stat.S_IFMT(status.st_mode))
        if stat.S_ISLNK(status.st_mode):
            lines.append(f"{name} is {kind} to {os.readlink(path)}")
        elif kind:
            lines.append(f"{name} is {kind}")
        elif status.st_nlink > names_of[status.st_dev, status.st_ino]:
            lines.append(f"{name} is a hard link that another folder has too")
    return lines
