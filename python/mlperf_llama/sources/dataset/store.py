"""The cache of served datasets: a file and, beside it, a record of what was checked."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...config import Config
from ...errors import UsageError
from ...records import codec, files, lock
from ...records.files import object_or_empty, write_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A file of the cache. `key`: what it was fetched or made for."""

    key: str
    path: str
    sha256: str


F = TypeVar("F", bound=Fetched)


def folder(config: Config, *parts: str) -> Path:
    """A folder of the cache, made where it is not there yet."""
    path = config.cache_path.joinpath("dataset", *parts).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from None
    return path


def unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"CACHE_DIR: expected a folder with room to write in, could not write {path}: {error.strerror}"
    )


def unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: expected a dataset file, could not read it: {error.strerror}")


@contextmanager
def turn(target: Path) -> Iterator[None]:
    """Look whether `target` is there, and put it there, while other processes wait (lock.turn)."""
    with ExitStack() as stack:
        try:
            stack.enter_context(lock.turn(target))
        except OSError as error:
            raise unwritable(target, error) from None
        yield


def keep(record: Path, fetched: Fetched) -> None:
    """Write what is known of a served file."""
    try:
        write_text(record, json.dumps(codec.to_json(fetched), indent=2) + "\n")
    except OSError as error:
        raise unwritable(record, error) from None


def kept(record: Path, key: str, kind: type[F]) -> F | None:
    """The record, if it is for `key` and its file still has the recorded SHA-256.

    A file that has changed is removed, so that whatever fetched it fetches it again.
    """
    try:
        fetched = codec.from_json(kind, object_or_empty(record))
    except ValueError:
        return None
    path = Path(fetched.path)
    if fetched.key != key or not path.is_file():
        return None
    if files.digest(path) == fetched.sha256:
        return fetched
    log.warning("cached_dataset_changed path=%s action=fetch_again", path)
    with suppress(OSError):
        path.unlink()
    return None


def write_lines(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write JSON Lines; the file appears only when it is whole."""
    encode = json.JSONEncoder(ensure_ascii=False).encode
    try:
        with files.atomic(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
            stream.writelines(encode(row) + "\n" for row in rows)
    except OSError as error:
        raise unwritable(path, error) from None
