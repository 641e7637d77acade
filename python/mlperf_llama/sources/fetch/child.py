"""A command in its own process group, ended when it stalls, overruns or is no longer wanted.

Used for downloaders that keep their own time-outs and threads: a process can always be
stopped. It has no terminal and no standard input, so it can never wait for an answer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

from ...errors import MissingError
from ...machine import guard, route
from ...settings import PREFIX
from ...terminal import activity

log = logging.getLogger(__name__)

POLL_S = 0.1
# Progress is looked at this often at most: it may read a large folder.
MEASURE_S = 1.0
# What a command gets between TERM and KILL.
GRACE_S = 2.0
# Using this share of a processor is progress; a process that only waits stays below.
LEAST_WORK = 0.05
REASON_CHARS = 300

Progress = Callable[[], object]
Explain = Callable[[str], str]


def last_line(output: str) -> str:
    """The last line that says something, usually the error; empty without one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:REASON_CHARS] if lines else ""


def growth(folder: Path) -> Progress:
    """A progress measure: changes whenever a file below `folder` appears, grows or is written."""

    def measure() -> tuple[int, int, int]:
        count = size = newest = 0
        for parent, _, names in os.walk(folder):
            for name in names:
                try:
                    state = os.lstat(os.path.join(parent, name))
                except OSError:  # gone since it was listed
                    continue
                count, size, newest = count + 1, size + state.st_size, max(newest, state.st_mtime_ns)
        return count, size, newest

    return measure


def with_package(env: Mapping[str, str]) -> dict[str, str]:
    """`env` for a child that runs one of our modules: it finds the package where we did, and imports nothing
    of the caller's but the folder that PACKAGES names."""
    root = str(Path(__file__).resolve().parents[3])
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, (root, env.get(f"{PREFIX}PACKAGES"))))}


def run(
    what: str,
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    stall_s: float,
    timeout_s: float,
    progress: Progress | None = None,
    cwd: Path | None = None,
    explain: Explain = last_line,
) -> str:
    """Run `command`, give its standard output. `what` names it in messages. It does not outlive this process.

    MissingError: it exited with a code other than 0 (`explain` makes the reason from its
    whole output, empty where there is none); or for `stall_s` seconds it wrote nothing, hardly
    used the processor and left `progress` unchanged; or it took longer than `timeout_s` seconds.
    """
    if shutil.which(command[0], path=env.get("PATH", os.defpath)) is None:
        raise MissingError(f"{what}: could not start {command[0]}: no such command")
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(
                guard.in_front_of([str(word) for word in command]),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise MissingError(f"{what}: could not start it: {error.strerror}") from None
        try:
            reason = _watch(process, (out, err), stall_s, timeout_s, _noted(what, progress))
        finally:
            activity.note("")
            assert process.stdin is not None
            with process.stdin:  # open until then: its end would kill everything at once
                _end(process)
        text = _text(out)
        if reason:
            cause = route.explained(explain(text + _text(err)), env)
            raise MissingError(f"{what}: {reason}" + (f"; its last line: {cause}" if cause else ""))
        if process.returncode != 0:
            cause = route.explained(explain(text + _text(err)) or "it printed nothing", env)
            raise MissingError(f"{what}: exit code {process.returncode}: {cause}")
        return text


def _noted(what: str, progress: Progress | None) -> Progress:
    """`progress`, which also tells how much has come since the beginning."""
    before: list[int] = []

    def measure() -> object:
        value = progress and progress()
        before.append(_size(value)) if not before else None
        come = _size(value) - before[0]
        activity.note(f"{what}: {activity.megabytes(come)}" if come > 0 else what)
        return value

    return measure


def _size(value: object) -> int:
    """The bytes in a measure of `growth`, or in several."""
    if isinstance(value, tuple | list):
        parts = list(value)
        return parts[1] if len(parts) == 3 and isinstance(parts[1], int) else sum(map(_size, parts))
    return 0


def _watch(
    process: subprocess.Popen[bytes],
    outputs: tuple[IO[bytes], ...],
    stall_s: float,
    timeout_s: float,
    progress: Progress,
) -> str:
    """Wait for the end. Gives why the process has to be ended, or nothing."""
    started = moved = measured = time.monotonic()
    seen: object = None
    while True:
        try:
            process.wait(POLL_S)
            return ""
        except subprocess.TimeoutExpired:
            pass
        now = time.monotonic()
        if now - started > timeout_s:
            return f"ended after {timeout_s:g} s (MLPERF_SOURCE_TIMEOUT_S)"
        if now - measured < min(MEASURE_S, stall_s / 10):
            continue
        measured = now
        sizes = [os.fstat(file.fileno()).st_size for file in outputs]
        work = int(_processor_s(process.pid) / (stall_s * LEAST_WORK))
        state = (sizes, work, progress())
        if state != seen:
            seen, moved = state, now
        elif now - moved > stall_s:
            return f"ended after {stall_s:g} s without progress"


def _processor_s(pid: int) -> float:
    """Processor time of a process and all its descendants, in seconds."""
    total = 0.0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever is left of the process group; TERM first, so that it can tidy up."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
    except ProcessLookupError:
        process.wait()
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
