"""The seal of a run folder: SHA-256 of every file, kept in hashes.json stage by stage.

Each stage works inside `stage`. On entry the files that earlier stages left are compared
with what they recorded; a file that was changed in between is listed under `broken` for
good. So are LoadGen's logs without a seal, or under one that no measuring stage made, or that
does not begin where the folder was made: each stage, from the making of the folder on, leaves
a seal, so somebody took it away.

While a stage works, hashes.json says so (`open`): which folders it is writing (`part`), and
the hash of each record before it is replaced (RunFolder.write). A stage that was killed is
told from an edit by that: its unfinished part is set aside in unfinished/, and any other
difference is an edit, as ever. Each LoadGen run is sealed as soon as it has ended.

The seal finds edits and accidents. It cannot stop somebody who rewrites the whole folder
with this code: that is why the verdict also derives its numbers from LoadGen's own logs
again, and why a seal can be signed (signature.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ..errors import PipelineError, UsageError
from . import contents, signature
from .run_folder import RunFolder
from .schema import OpenStage, Seal, SealedStage
from .source import source_sha256

# The stage that makes the folder, the one that LoadGen writes its logs in, and what they are called.
CREATED, MEASURED, LOGS = "create", "run", "mlperf_log_*"
# Where parts that did not end are kept, each time in a folder with the next number.
UNFINISHED = "unfinished"
NO_SEAL = f"LoadGen's logs were there and {Seal.FILE} was not"
NO_CHAIN = f"LoadGen's logs are there, and {Seal.FILE} names no stage that measured"
NO_BEGIN = f"{Seal.FILE} does not begin where the folder was made: what was in it before is nobody's record"
# What files.atomic leaves of a process that was killed.
_TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")


def hashes(run: RunFolder) -> dict[str, str]:
    """Relative path -> SHA-256 of every file a verdict rests on."""
    return contents.hashes(run.path)


def differences(run: RunFolder) -> list[str]:
    """What differs from the last seal, in words; empty where nothing does."""
    if not run.file(Seal.FILE).is_file():
        return ["no seal"]
    seal = run.read(Seal)
    current = hashes(run)
    lines = [line for name, line in _differing(_expected(seal, current), current) if not _is_open(seal, name)]
    if seal.open:
        lines.append(f"the stage {seal.open.stage!r} is at work, or was ended from outside")
    return lines


def faults(run: RunFolder) -> list[str]:
    """What was changed between stages, or since the last one; a seal that cannot be read is one."""
    foreign = contents.foreign(run.path)
    try:
        recorded = run.read_or_new(Seal)
        chain = _chain_faults([s.stage for s in recorded.stages]) if has_logs(run) else []
        return [*foreign, *recorded.broken, *chain, *differences(run)]
    except PipelineError as error:
        return [*foreign, str(error)]


def _chain_faults(stages: list[str]) -> list[str]:
    """What the stages of a folder with logs lack."""
    if MEASURED not in stages:
        return [NO_CHAIN]
    return [] if stages[0] == CREATED else [NO_BEGIN]


def has_logs(run: RunFolder) -> bool:
    """Whether LoadGen's logs are in the folder, but for what was set aside."""
    return any(run.file(UNFINISHED) not in path.parents for path in run.path.rglob(LOGS))


def _differing(expected: dict[str, str], current: dict[str, str]) -> list[tuple[str, str]]:
    """Each file that is not as expected, with a line that says how."""
    lines = [(n, f"{n} changed") for n in expected if current.get(n, expected[n]) != expected[n]]
    lines += [(n, f"{n} gone") for n in expected if n not in current]
    return lines + [(n, f"{n} added") for n in current if n not in expected]


def _expected(seal: Seal, current: dict[str, str]) -> dict[str, str]:
    """The sealed files, with the records that the open stage announced and wrote."""
    pending = seal.open.pending if seal.open else {}
    written = {name: sha for name, sha in pending.items() if current.get(name) == sha}
    return {**seal.files, **written}


def _is_open(seal: Seal, name: str) -> bool:
    return seal.open is not None and contents.is_under(name, seal.open.paths)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def stage(run: RunFolder, name: str) -> Iterator[None]:
    """Work of one stage: records foreign changes before it, seals the folder after it.

    UsageError where the folder holds links, pipes or devices; nothing is recorded then.
    """
    seal = _enter(run, name)
    signature.remove(run)
    run.write(replace(seal, open=OpenStage(name, _now(), source_sha256())))
    try:
        yield
    finally:
        _end(run, name)


def _enter(run: RunFolder, name: str) -> Seal:
    """The seal as the stage finds it, with what a killed stage left put in order."""
    foreign = contents.foreign(run.path)
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise UsageError(
            f"{run.path}: expected files of its own, found: {'; '.join(foreign[:3])}{more}; put the content "
            "itself there (cp -rL copies a folder with it)"
        )
    if not run.file(Seal.FILE).is_file():
        return Seal(broken=(f"before {name}: {NO_SEAL}",)) if has_logs(run) else Seal(files=hashes(run))
    seal = _recovered(run, run.read(Seal))
    current = hashes(run)
    lines = (f"before {name}: {line}" for _, line in _differing(seal.files, current))
    return replace(seal, broken=(*seal.broken, *lines), files=current)


def _end(run: RunFolder, name: str) -> None:
    """Seal everything. What was sealed before must be as it was, unless the stage said it would write it."""
    seal, current = run.read(Seal), hashes(run)
    lines = [
        f"during {name}: {line}"
        for path, line in _differing(_expected(seal, current), current)
        if path in seal.files and not _is_open(seal, path)
    ]
    stages = (*seal.stages, SealedStage(name, _now(), source_sha256()))
    run.write(Seal(stages, (*seal.broken, *lines), current))


@contextmanager
def part(run: RunFolder, name: str, *paths: str) -> Iterator[None]:
    """Work of the open stage that writes `paths` (files, or folders whole); sealed where it ends well."""
    _announce(run, paths)
    yield
    for path in paths:
        _flush(run.file(path))
    seal = run.read(Seal)
    assert seal.open is not None
    files = {n: sha for n, sha in seal.files.items() if not contents.is_under(n, paths)}
    run.write(
        replace(
            seal,
            stages=(*seal.stages, SealedStage(seal.open.stage, _now(), source_sha256(), name)),
            files={**files, **contents.hashes(run.path, paths)},
            open=replace(seal.open, paths=()),
        )
    )


def _announce(run: RunFolder, paths: tuple[str, ...]) -> None:
    """What the open stage is about to write, and does not know the content of."""
    seal = run.read(Seal)
    if seal.open is None:
        raise ValueError(f"{paths}: written outside a stage")
    run.write(replace(seal, open=replace(seal.open, paths=paths)))


def _flush(path: Path) -> None:
    """Onto the disk, before a seal says that it is there."""
    for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if each.is_file() or each.is_dir():  # a pipe would be waited for
            handle = os.open(each, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def set_aside(run: RunFolder, paths: tuple[str, ...]) -> None:
    """In a stage: move `paths` to unfinished/, where nothing is judged and nothing is lost."""
    if paths:
        _announce(run, (*paths, UNFINISHED))
        _move(run, run.read(Seal), paths)


def unfinished(run: RunFolder) -> list[str]:
    """The files that were set aside, by their paths in the run folder."""
    return [n for n in run.read_or_new(Seal).files if contents.is_under(n, (UNFINISHED,))]


def _recovered(run: RunFolder, seal: Seal) -> Seal:
    """The seal after a stage that was killed: its finished parts and records stand, its unfinished part is
    set aside."""
    if seal.open is None:
        return seal
    for path in run.path.rglob(".*"):
        if path.is_file() and _TEMPORARY.fullmatch(path.name):
            path.unlink()
    current = hashes(run)
    files = _expected(seal, current)
    differing = {name for name, _ in _differing(files, current)}
    own = (path for path in seal.open.paths if path != UNFINISHED)
    started = tuple(path for path in own if any(contents.is_under(n, (path,)) for n in differing))
    kept = _move(run, seal, started)
    files = {n: sha for n, sha in files.items() if not contents.is_under(n, started)}
    return replace(seal, files={**files, **contents.hashes(run.path, (kept,))}, open=None)


def _move(run: RunFolder, seal: Seal, paths: tuple[str, ...]) -> str:
    """Move every file under `paths` to the next folder of unfinished/, which is also where a killed move
    has begun; its relative path."""
    numbers = [int(n.split("/")[1]) for n in seal.files if re.match(rf"{UNFINISHED}/\d+/", n)]
    folder = f"{UNFINISHED}/{max(numbers, default=0) + 1}"
    for name in contents.hashes(run.path, paths) if paths else ():
        if not contents.is_under(name, (UNFINISHED,)):
            target = run.file(folder) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            run.file(name).rename(target)
    return folder
