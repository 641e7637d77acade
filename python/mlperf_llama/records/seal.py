"""The seal of a run folder: SHA-256 of every file, kept in hashes.json stage by stage.

Each stage works inside `stage`. On entry the files that earlier stages left are
compared with what they recorded; a file that was changed in between is listed under
`broken` for good. So are LoadGen's logs without a seal, or under one that no measuring
stage made: each stage, from the sources on, leaves a seal, so somebody took it away. The
seal finds edits and accidents. It cannot stop somebody who rewrites the whole folder with
this code: that is why the verdict also derives its numbers from LoadGen's own logs again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from ..errors import PipelineError
from .files import digest
from .run_folder import RunFolder
from .schema import Seal, SealedStage
from .source import source_sha256

# The stage that LoadGen writes its logs in, and what they are called.
MEASURED, LOGS = "run", "mlperf_log_*"
# Still growing, or written from the sealed files: nothing is judged by them.
UNSEALED = (Seal.FILE, "events.jsonl", "run.log", "verdict.json", "report.md", "report.html")
NO_SEAL = f"LoadGen's logs were there and {Seal.FILE} was not"
NO_CHAIN = f"LoadGen's logs are there, and {Seal.FILE} names no stage that measured"


def hashes(run: RunFolder) -> dict[str, str]:
    """Relative path -> SHA-256 of every file a verdict rests on."""
    names = {path: path.relative_to(run.path).as_posix() for path in sorted(run.path.rglob("*"))}
    return {
        name: digest(path)
        for path, name in names.items()
        if path.is_file() and name not in UNSEALED and not path.name.startswith(".")
    }


def differences(run: RunFolder) -> list[str]:
    """What differs from the last seal, in words; empty where nothing does."""
    if not run.file(Seal.FILE).is_file():
        return ["no seal"]
    recorded, current = run.read(Seal).files, hashes(run)
    lines = [f"{name} changed" for name in recorded if current.get(name, recorded[name]) != recorded[name]]
    lines += [f"{name} gone" for name in recorded if name not in current]
    lines += [f"{name} added" for name in current if name not in recorded]
    return lines


def faults(run: RunFolder) -> list[str]:
    """What was changed between stages, or since the last one; a seal that cannot be read is one."""
    try:
        recorded = run.read_or_new(Seal)
        chain = [] if MEASURED in {s.stage for s in recorded.stages} or not _has_logs(run) else [NO_CHAIN]
        return [*recorded.broken, *chain, *differences(run)]
    except PipelineError as error:
        return [str(error)]


def _has_logs(run: RunFolder) -> bool:
    return any(run.path.rglob(LOGS))


@contextmanager
def stage(run: RunFolder, name: str) -> Iterator[None]:
    """Work of one stage: records foreign changes before it, seals the folder after it."""
    before = run.read_or_new(Seal)
    broken = before.broken
    if run.file(Seal.FILE).is_file():
        broken += tuple(f"before {name}: {line}" for line in differences(run))
    elif _has_logs(run):
        broken += (f"before {name}: {NO_SEAL}",)
    try:
        yield
    finally:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        stages = (*before.stages, SealedStage(name, now, source_sha256()))
        run.write(Seal(stages, broken, hashes(run)))
