"""Starts runs, and harms them in the ways of chaos.py."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import forked_runs
import psutil
from chaos_world import World
from forked_runs import LIMIT_S, Run
from pipeline_runs import ROOT, environment

# The codes that a run may end with, by what was done to it.
KILLED = (0, 4, 137)
INTERRUPTED = (0, 130, 143)
# A harmed machine may be too slow for Server's limits: LoadGen says so, and the run is labelled by that.
FINISHED = (0, 5)


@dataclass
class Started:
    """A command at work: its process, and how it ends."""

    pid: int
    end: Callable[[], int]
    said: Callable[[], str]


def start(world: World, run: Run, results: Path, shipped: bool) -> Started:
    """The next command of a run: the shipped script, or its steps in a fork, which costs less."""
    world.first.results = results
    if shipped:
        return _start_shipped(world, run)
    before = world.first.log.stat().st_size if world.first.log.exists() else 0
    pid = world.first.start(run.verbs())
    return Started(
        pid, world.first.end, lambda: world.first.log.read_bytes()[before:].decode(errors="replace")
    )


def _start_shipped(world: World, run: Run) -> Started:
    words = ["run", *run.flags] if run.path is None else ["resume", str(run.path)]
    settings = {**forked_runs.SETTINGS}
    log = world.folder / "shipped.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(ROOT / "entrypoint.sh"), *words],
            cwd=ROOT,
            env=environment(world.folder, settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stream,
        )

    def end() -> int:
        code = process.wait(LIMIT_S)
        return code if code >= 0 else 128 - code

    return Started(process.pid, end, lambda: log.read_text(errors="replace"))


def family(pid: int) -> list[psutil.Process]:
    """A process and all that it started, at this moment."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


# --- harms: each gives what it did, and the codes that the run may then end with


@contextmanager
def kill(world: World, draw: random.Random, pid: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """One process of the run, or all of them, as when the power fails."""
    processes = family(pid)
    chosen = processes if draw.random() < 0.4 else [draw.choice(processes)] if processes else []
    for process in chosen:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    yield f"SIGKILL of {len(chosen)} of {len(processes)} processes", KILLED


@contextmanager
def interrupt(world: World, draw: random.Random, pid: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    number = draw.choice((signal.SIGINT, signal.SIGTERM))
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    yield number.name, INTERRUPTED


@contextmanager
def stop(world: World, draw: random.Random, pid: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """One process of the run, or all of them, stand still for a while."""
    processes = family(pid)
    chosen = processes if draw.random() < 0.3 else [draw.choice(processes)] if processes else []
    seconds = draw.uniform(0.2, 3)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in chosen:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number == signal.SIGSTOP:
            time.sleep(seconds)
    yield f"SIGSTOP of {len(chosen)} of {len(processes)} processes for {seconds:.1f} s", FINISHED


@contextmanager
def full_disk(world: World, draw: random.Random, pid: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Results and cache lie on a disk that has no byte left, or a few, until the run has ended."""
    assert world.disk is not None
    filler, spare = world.disk / "filler", draw.choice((0, 4 << 10, 64 << 10))
    with filler.open("wb", buffering=0) as stream:
        with suppress(OSError):
            while stream.write(bytes(1 << 20)):
                pass
        stream.truncate(max(0, stream.tell() - spare))
    try:
        yield f"the disk filled but for {spare >> 10} KiB", (0, 4)
    finally:
        filler.unlink()


HARMS = {"kill": kill, "interrupt": interrupt, "stop": stop, "full disk": full_disk}
