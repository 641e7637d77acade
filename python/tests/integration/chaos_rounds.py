"""Rounds of chaos.py: a run, one harm at a random moment of it, and what must hold afterwards."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import chaos_members
import clock_shim
import forked_runs
import psutil
from chaos_world import URI_NAME, World, articles, orphans, scores
from forked_runs import LIMIT_S, PARTS, Run, outcomes, wait_for_a_moment
from pipeline_runs import ROOT, environment
from run_folder_schemas import problems
from standin_servers import Fault

from mlperf_llama import rules
from mlperf_llama.records import seal
from mlperf_llama.records.files import object_or_empty
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import COMPLETE, Provenance
from mlperf_llama.verdict import twice

KILLED = (0, 4, 137)
INTERRUPTED = (0, 130, 143)
# A harmed machine may be too slow for Server's limits: LoadGen says so, and the run is labelled by that.
FINISHED = (0, 5)
# Checks that may fail beside those that fail in a calm run, because LoadGen, not this package, says so.
BY_LOADGEN = ("Server.valid", "Server.ttft_p99", "Server.tpot_p99", "Server.early_stopping")
# How often a harmed run is harmed again while it is resumed.
AGAIN = 0.3


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


def harmed(world: World, draw: random.Random, number: int, name: str) -> str:
    """A run that is harmed, once or twice, and then finished."""
    place = world.place(number)
    results, run = place / "results", world.run_in(place, fresh_cache=draw.random() < 0.3)
    shipped, story = draw.random() < 0.15, []
    while True:
        started = start(world, run, results, shipped)
        wait_for_a_moment(run, results, started.pid, draw, (4.0, 0.4) if shipped else (1.0, 0.2))
        with HARMS[name](world, draw, started.pid) as (what, codes):
            code = started.end()
        story.append(f"{what}: {'the script' if shipped else 'steps'} ended with {code}")
        ended_well(world, started, code, codes)
        run.look(results)
        if code in FINISHED or draw.random() > AGAIN:
            break
        shipped = False
    forked_runs.finish(world.first, run, FINISHED)
    judged(world, run)
    return "; ".join(story)


def second_run(world: World, draw: random.Random, number: int) -> str:
    """A second command on the run folder of a first one, or a second first run on one new cache."""
    place = world.place(number)
    other = draw.choice(("resume", "execute", "score", "report", "run", "run, the first killed"))
    results, run = place / "results", world.run_in(place, fresh_cache=other.startswith("run"))
    started = start(world, run, results, shipped=False)
    world.second.results = place / "second"
    beside = Run(flags=[*run.flags[2:], "--results-dir", str(world.second.results)])
    if other.startswith("run"):
        time.sleep(draw.uniform(0, 0.3))
        steps = beside.verbs()
    else:
        wait_for_a_moment(run, results, started.pid, draw)
        run.look(results)
        folder = str(run.path or results / "latest")
        steps = [["create-run", "--resume", folder]] if other == "resume" else [[other, "--run-dir", folder]]
    world.second.start(steps)
    if other == "run, the first killed":
        time.sleep(draw.uniform(0, 0.5))
        with suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGKILL)
    codes = started.end(), world.second.end()
    ended_well(world, started, codes[0], KILLED if "killed" in other else (0, 2))
    no_traceback(world.second.log.read_text(errors="replace"))
    run.look(results)
    forked_runs.finish(world.first, run, FINISHED)
    judged(world, run)
    if other.startswith("run"):
        assert codes[1] in FINISHED, f"the second run ended with {codes[1]}"
        beside.look(world.second.results)
        judged(world, beside)
    else:
        assert codes[1] in (0, 2), f"the second command ended with {codes[1]}"
        assert 0 in codes, f"both were refused: {codes}"
    return f"beside it {other}: ended with {codes[0]} and {codes[1]}"


FAULTS = (503, 404, "hang", "slow", "cut-off", "corrupt", "login", "slow-headers", "endless", "huge")
STEPS = (f"/metadata/{URI_NAME}.uri", f"/metadata/{URI_NAME}.md5", f"/bucket/{URI_NAME}")


def cut_network(world: World, draw: random.Random, number: int) -> str:
    """The store of the articles fails at a random step in a random way, once or for good, and the run may be
    killed over it: the articles come from there whole, or from the next source, and say so. Afterwards the same
    cache serves them whole."""
    place = world.place(number)
    run = world.run_in(place, fresh_cache=True)
    run.flags += ["--r2-base-url", f"{world.store.url}/metadata", "--mlc-repo", str(place / "nowhere.git")]
    run.flags += ["--dataset-source", "auto", "--source-stall-s", "2"]
    sources = [["dataset", name, "--run-dir", "run_dir"] for name in ("mlcommons", "synthetic")]
    model, execute = forked_runs.REST[0], forked_runs.REST[-1]
    run.rest = [model, sources, execute]
    fault, step, times = draw.choice(FAULTS), draw.choice(STEPS), draw.choice((1, None))
    world.store.heal()
    world.store.fail(step, Fault(fault, times))
    started = start(world, run, place / "results", shipped=False)
    killed = draw.random() < 0.3
    if killed:
        time.sleep(draw.uniform(0, 4))
        with suppress(ProcessLookupError):
            os.kill(started.pid, signal.SIGKILL)
    code = started.end()
    ended_well(world, started, code, KILLED if killed else FINISHED)
    world.store.heal()
    source = "none, killed over it" if code == 137 else source_of(world, place)
    healed = replace(run, rest=[model, sources], path=None)
    started = start(world, healed, place / "results", shipped=False)
    ended_well(world, started, started.end(), (0,))
    assert source_of(world, place) == "mlcommons", "the cache did not heal"
    return f"{fault} at {Path(step).name}, {'once' if times else 'for good'}: ended with {code} from {source}"


def source_of(world: World, place: Path) -> str:
    """Where the newest run has its articles from; what is named MLCommons' must have its bytes."""
    run = RunFolder((place / "results/latest").resolve())
    served = run.read(Provenance).dataset
    assert served is not None and not served.eligible
    if served.source == "mlcommons":
        assert served.sha256 == hashlib.sha256(articles()).hexdigest()
        assert hashlib.sha256(Path(str(served.path)).read_bytes()).hexdigest() == served.sha256
    return str(served.source)


def damaged_cache(world: World, draw: random.Random, number: int) -> str:
    """Files of a cache, or all of them, are removed, cut off, emptied or overwritten; the run makes them
    again."""
    place = world.place(number)
    shutil.copytree(world.folder / "work/cache", place / "cache", symlinks=True)
    files = sorted(path for path in (place / "cache").rglob("*") if path.is_file())
    chosen = draw.sample(files, draw.choice((1, 2, len(files))))
    damages: Counter[str] = Counter()
    for path in chosen:
        damage = draw.choice(("removed", "cut off", "emptied", "overwritten"))
        damages[damage] += 1
        content = path.read_bytes()
        path.unlink()
        if damage != "removed":
            size = {"cut off": draw.randrange(len(content) or 1), "emptied": 0}.get(damage, len(content))
            path.write_bytes(draw.randbytes(size) if damage == "overwritten" else content[:size])
    run = world.run_in(place, fresh_cache=True)
    world.first.results = place / "results"
    started = start(world, run, place / "results", shipped=False)
    code = started.end()
    ended_well(world, started, code, FINISHED)
    run.look(place / "results")
    judged(world, run)
    return f"of {len(files)} files {dict(damages)}: ended with {code}"


def wrong_clock(world: World, draw: random.Random, number: int) -> str:
    """LoadGen's process alone has a clock that is slow or fast, or that is set while the run is at work."""
    place = world.place(number)
    clock = draw.choice(
        (
            clock_shim.Clock(speed=round(draw.choice((draw.uniform(0.1, 0.5), draw.uniform(2, 10))), 2)),
            clock_shim.Clock(
                step_s=draw.choice((-3600, -20, 20, 3600)), after_s=round(draw.uniform(0, 3), 1)
            ),
        )
    )
    (place / "environment").mkdir()
    venv = clock_shim.environment(place / "environment", clock)
    slow = '{"samples_per_s": 3}'
    run = world.run_in(place, fresh_cache=False)
    run.flags += ["--fake", slow, "--scenario", "Offline", "--mode", "performance", "--target-qps", "1"]
    world.first.results = place / "results"
    world.first.start([["python", str(venv / "bin/python")], *run.verbs()])
    code = world.first.end()
    assert code in (*FINISHED, 4), f"ended with {code}"
    no_orphans(world)
    folder = RunFolder((place / "results/latest").resolve())
    assert seal.faults(folder) == []
    return f"{clock}: ended with {code}, {believed(folder) if code != 4 else 'no result'}"


def believed(folder: RunFolder) -> str:
    """A rate that is not the true one is not believed."""
    results = object_or_empty(folder.file("results.json"))
    performance = results["scenarios"]["Offline"]["performance"]  # type: ignore[index]
    true_s = performance["driven"]["seconds"]
    theirs_s = performance["driven"]["samples"] / (performance["samples_per_second"] or float("inf"))
    wrong = abs(theirs_s - true_s) > max(twice.SHARE * true_s, twice.SLACK_S)
    passed = outcomes(folder)["Offline.performance.clock"]
    assert not (wrong and passed), f"{theirs_s:.2f} s were believed, {true_s:.2f} s are true"
    return "not believed" if not passed else "true to the second"


def harmed_member(world: World, draw: random.Random, number: int) -> str:
    """One of three members on hosts of their own: killed, stopped, its host killed, its cable cut."""
    trial = chaos_members.trial_of(draw)
    return f"{trial.harm}, {trial.scenario} {trial.mode}: {chaos_members.run_trial(trial)}"


# --- what must hold


def no_traceback(text: str) -> None:
    assert "Traceback" not in text and "unexpected fault" not in text, text[-3000:]


def no_orphans(world: World) -> None:
    still = orphans(world)
    assert not still, f"left behind: {still}"


def ended_well(world: World, started: Started, code: int, codes: tuple[int, ...]) -> None:
    """With a code that tells the truth, in plain words, and nothing is left behind."""
    assert code in codes, f"ended with {code}: {started.said()[-2000:]}"
    no_traceback(started.said())
    no_orphans(world)


def judged(world: World, run: Run) -> None:
    """Finished, with every answer, and judged as a run that nobody harmed; no better, and worse only where
    LoadGen says so."""
    assert run.path is not None
    folder = RunFolder(run.path)
    assert seal.faults(folder) == []
    assert object_or_empty(folder.file("results.json")).get("status") == COMPLETE
    assert len(run.finished) == PARTS, f"parts: {sorted(run.finished)}"
    assert scores(folder) == world.scores
    checks = outcomes(folder)
    other = {name for name in {*checks, *world.checks} if checks.get(name) != world.checks.get(name)}
    assert other <= set(BY_LOADGEN), f"judged otherwise: {sorted(other)}"
    assert not any(checks[name] for name in other), f"judged better: {sorted(other)}"
    assert problems(run.path) == []
    assert not list(run.path.rglob(".*.????????")), "temporary files are left"
    assert set(rules.MODES)  # the parts above are of these
