"""The seal of a run folder: SHA-256 of every file, kept in hashes.json stage by stage.

Each stage works inside `stage`. On entry the files that earlier stages left are
compared with what they recorded; a file that was changed in between is listed under
`broken` for good. The seal finds edits and accidents. It cannot stop somebody who
rewrites the whole folder with this code: that is why the verdict also derives its
numbers from LoadGen's own logs again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from .run_folder import RunFolder

NAME = "hashes.json"
# Still growing, or written from the sealed files: nothing is judged by them.
UNSEALED = (NAME, "events.jsonl", "run.log", "verdict.json", "report.md", "report.html")


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@cache
def source_sha256() -> str:
    """One hash of this package's Python files: which code made the run.

    Taken once a process: a file edited later is not what runs.
    """
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def hashes(run: RunFolder) -> dict[str, str]:
    """Relative path -> SHA-256 of every file a verdict rests on."""
    found = {}
    for path in sorted(run.path.rglob("*")):
        name = path.relative_to(run.path).as_posix()
        if path.is_file() and name not in UNSEALED and not path.name.startswith("."):
            found[name] = file_sha256(path)
    return found


def differences(run: RunFolder) -> list[str]:
    """What differs from the last seal, in words; empty where nothing does."""
    recorded = run.read_or_empty(NAME).get("files")
    if not isinstance(recorded, dict):
        return ["no seal"]
    found = hashes(run)
    lines = [f"{name} changed" for name in recorded if name in found and found[name] != recorded[name]]
    lines += [f"{name} gone" for name in recorded if name not in found]
    lines += [f"{name} added" for name in found if name not in recorded]
    return lines


@contextmanager
def stage(run: RunFolder, name: str) -> Iterator[None]:
    """Work of one stage: notes foreign changes before it, seals the folder after it."""
    before = run.read_or_empty(NAME)
    broken = [*before.get("broken", [])]
    if before:
        broken += [f"before {name}: {line}" for line in differences(run)]
    try:
        yield
    finally:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        stages = [*before.get("stages", []), {"stage": name, "sealed": now, "source": source_sha256()}]
        run.write_raw(NAME, {"stages": stages, "broken": broken, "files": hashes(run)})
