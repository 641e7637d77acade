"""Rounds of chaos.py: a run, one harm at a random moment of it, and what must hold afterwards."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import chaos_members
import clock_shim
import forked_runs
from chaos_checks import believed, ended_well, judged, no_orphans, no_traceback, source_of
from chaos_harms import FINISHED, HARMS, KILLED, start
from chaos_world import URI_NAME, World
from forked_runs import Run, wait_for_a_moment
from standin_servers import Fault

from mlperf_llama.records import seal
from mlperf_llama.records.run_folder import RunFolder

# How often a harmed run is harmed again while it is resumed, and how often it is the shipped script.
AGAIN, SHIPPED = 0.3, 0.15


def harmed(world: World, draw: random.Random, number: int, name: str) -> str:
    """A run that is harmed, once or twice, and then finished."""
    place = world.place(number)
    results, run = place / "results", world.run_in(place, fresh_cache=draw.random() < 0.3)
    shipped, story = draw.random() < SHIPPED, []
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
    killed over it: the articles come from there whole, or from the next source, and say so. Afterwards the
    same cache serves them whole."""
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


def harmed_member(world: World, draw: random.Random, number: int) -> str:
    """One of three members on hosts of their own: killed, stopped, its host killed, its cable cut."""
    trial = chaos_members.trial_of(draw)
    return f"{trial.harm}, {trial.scenario} {trial.mode}: {chaos_members.run_trial(trial)}"
