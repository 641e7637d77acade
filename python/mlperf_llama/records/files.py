"""Files: hashes, atomic writing, JSON objects. The only place that does each of these."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from ..credentials import redaction
from ..errors import MissingError, UsageError

# A JSON object whose content belongs to somebody else: its values must be looked at before use.
JsonObject: TypeAlias = "dict[str, object]"
BLOCK = 1 << 20


def digest(path: Path, algorithm: str = "sha256") -> str:
    """A file's hash in hex: "sha256", or "md5" where a publisher's list says so."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def digests(path: Path) -> tuple[str, str]:
    """SHA-256 and MD5 of a file, in one reading."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            sha256.update(block)
            md5.update(block)
    return sha256.hexdigest(), md5.hexdigest()


@contextmanager
def atomic(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """A temporary file in the same folder; it takes `path`'s name, and `mode`, where the block ends well.

    Until then nobody but its owner can read it.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder in the same folder; it takes `path`'s name where the block ends well.

    FileExistsError: another process was faster; what it put at `path` stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as parent:
        temporary = Path(parent) / path.name
        temporary.mkdir()
        temporary.chmod(0o755)
        yield temporary
        try:
            temporary.rename(path)
        except OSError:
            if path.exists():
                raise FileExistsError(f"{path}: it was not there when its content was begun") from None
            raise


def write_text(path: Path, text: str) -> None:
    """Write atomically, without secrets: a file that exists is complete, also after a power loss.

    The bytes of a name that is not UTF-8 are written as \\udcXX, which JSON reads as the same name.
    """
    with (
        atomic(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        stream.write(redaction.text(text))
        stream.flush()
        os.fsync(stream.fileno())


def tail(path: Path, most_bytes: int, start: int = 0) -> list[str]:
    """The last lines of a file, out of its last bytes from `start` on: the first may be cut. Empty where it
    cannot be read."""
    try:
        with path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(start, end - most_bytes))
            return stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def refuse_other_than_file(path: Path) -> None:
    """UsageError where something else lies at `path`: a pipe would be waited for without end."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: expected a file, found a folder, a pipe or a device")


def read_object(path: Path) -> JsonObject:
    """A JSON object from disk; MissingError where absent, UsageError where broken."""
    refuse_other_than_file(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{path}: expected a file, found none; is the run finished?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected a JSON object, could not read it: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected a JSON object, found a {type(data).__name__}")
    return data


def object_or_empty(path: Path) -> JsonObject:
    """A JSON object from disk; an empty one where there is none or it is broken."""
    try:
        return read_object(path)
    except (MissingError, UsageError):
        return {}
