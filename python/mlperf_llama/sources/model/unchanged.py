"""Whether a model's files are still those that were hashed, by what the file system says of them.

A file that is replaced, and put back, has another time of change: no program can set that one. So the hashes
hold for what an engine has read in between, but for a clock that was set or a file system of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...errors import UsageError
from ...records.schema import Provided

# Of Provided.details.
KEY = "files"
FOLDER = "."


def states(folder: Path) -> dict[str, list[int]]:
    """Of the folder and of each file in it: size and times of what is read, and of a link to it."""
    names = (path.name for path in sorted(folder.iterdir()) if not path.is_dir())
    return {name: _state(folder / name) for name in (FOLDER, *names)}


def _state(path: Path) -> list[int]:
    target, entry = path.stat(), path.lstat()
    size = 0 if path.is_dir() else target.st_size
    return [size, target.st_mtime_ns, target.st_ctime_ns, entry.st_ctime_ns]


def changed(folder: Path, before: Mapping[str, object]) -> list[str]:
    """The files that are not as they were, or not there, or new; of the folder alone where no file is."""
    try:
        now = states(folder)
    except OSError as error:
        return [str(error)]
    names = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return [name for name in names if name != FOLDER] or names


def check_loaded(model: Provided) -> None:
    """UsageError where the files that an engine has just loaded may not be those that were hashed."""
    before = (model.details or {}).get(KEY)
    if isinstance(before, dict) and (names := changed(Path(str(model.path)), before)):
        raise UsageError(
            f"{model.path}: expected the files that were hashed, found that {', '.join(names[:4])} changed "
            "before the engine had loaded them; leave the model's folder alone and run again"
        )
