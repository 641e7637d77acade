"""Folders of the cache: whole or made again, by one process at a time; nothing in them needs a human."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ...records import lock
from ...records.files import atomic_folder, object_or_empty, write_text

log = logging.getLogger(__name__)

# Written last: the folder is complete, and these files were whole when it was.
COMPLETE = ".complete.json"


def is_complete(folder: Path) -> bool:
    """Whether every file listed on completion is still there, with its size and time."""
    listed = object_or_empty(folder / COMPLETE).get("files")
    try:
        return (
            isinstance(listed, dict)
            and bool(listed)
            and all(_state(folder / name) == state for name, state in listed.items())
        )
    except OSError:
        return False


def mark_complete(folder: Path, names: Sequence[str]) -> None:
    states = {name: _state(folder / name) for name in names}
    write_text(folder / COMPLETE, json.dumps({"schema_version": 1, "files": states}))


def _state(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def provide(folder: Path, make: Callable[[Path], None], problem: Callable[[Path], str]) -> None:
    """`folder` as `make` fills it: from the cache where it is whole, else made, where others wait for us.

    `problem`: why a folder cannot be used. It decides about a folder that an earlier version made, which
    lists nothing.
    """
    if is_complete(folder):
        return
    with lock.turn(folder):
        if is_complete(folder) or _adopted(folder, problem):
            return
        _clear(folder)
        for left in folder.parent.glob(f".{folder.name}.*/"):  # of a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        # Another process may have been faster, where the file system has no locks.
        with suppress(FileExistsError), atomic_folder(folder) as made:
            make(made)
            mark_complete(made, _names(made))


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def _adopted(folder: Path, problem: Callable[[Path], str]) -> bool:
    """Mark a whole folder without a list as complete; one with a list is not whole."""
    if not folder.is_dir() or (folder / COMPLETE).exists() or problem(folder) or not _readable(folder):
        return False
    with suppress(OSError):  # a cache that is only read
        mark_complete(folder, _names(folder))
    return True


def _readable(folder: Path) -> bool:
    """Whether no JSON file was cut off."""
    try:
        for path in folder.rglob("*.json"):
            json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return True


def _clear(folder: Path) -> None:
    """Out of the way at once, then removed: nobody finds half of it."""
    if not folder.exists() and not folder.is_symlink():
        return
    log.warning("%s is not whole; it is made again", folder)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as scrap:
        folder.rename(Path(scrap) / folder.name)
