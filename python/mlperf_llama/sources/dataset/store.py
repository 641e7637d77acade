"""The cache of served datasets: a file and, beside it, a record of what was checked."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...config import Config
from ...errors import MissingError, UsageError
from ...records.files import read_object, write_text

log = logging.getLogger(__name__)

BLOCK = 1 << 20


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


def digests(path: Path) -> tuple[str, str]:
    """SHA-256 and MD5 of a file, in hex."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK):
                sha256.update(block)
                md5.update(block)
    except OSError as error:
        raise UsageError(f"{path}: expected a dataset file, could not read it: {error.strerror}") from None
    return sha256.hexdigest(), md5.hexdigest()


def keep(record: Path, **facts: Any) -> dict[str, Any]:
    """Write what is known of a served file; `path` and `sha256` are among the facts."""
    try:
        write_text(record, json.dumps(facts, indent=2) + "\n")
    except OSError as error:
        raise unwritable(record, error) from None
    return facts


def kept(record: Path, key: str) -> dict[str, Any] | None:
    """The record, if it is for `key` and its file still has the recorded SHA-256.

    A file that has changed is removed, so that whatever fetched it fetches it again.
    """
    try:
        facts = read_object(record)
        path, sha256 = Path(str(facts["path"])), facts["sha256"]
    except (MissingError, UsageError, KeyError, TypeError):
        return None
    if facts.get("key") != key or not path.is_file():
        return None
    if digests(path)[0] == sha256:
        return facts
    log.warning("cached_dataset_changed path=%s action=fetch_again", path)
    with suppress(OSError):
        path.unlink()
    return None


def write_lines(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Write JSON Lines; the file appears only when it is whole."""
    part = path.with_name(path.name + ".part")
    encode = json.JSONEncoder(ensure_ascii=False).encode
    try:
        with part.open("w", encoding="utf-8") as stream:
            stream.writelines(encode(row) + "\n" for row in rows)
        part.replace(path)
    except OSError as error:
        raise unwritable(path, error) from None
    finally:
        part.unlink(missing_ok=True)
