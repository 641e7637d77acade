"""What the rounds of chaos.py share: a disk that can be filled, the drivers of runs, a stand-in for the store
of MLCommons, how a run is judged that nobody harms, and which processes are left."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import forked_runs
import namespaces
import psutil
import standin_servers
from forked_runs import Driver, Run, outcomes
from standin_servers import StandIn

from mlperf_llama import rules
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.sources.dataset import official

# Server's 464 queries take most of a second, so that a moment within a run of LoadGen can be met.
PACE = json.dumps({"samples_per_s": 600})
DISK_BYTES = 256 << 20
# What was killed is gone by then, and so is what it started.
GONE_WITHIN_S = 10.0
PR_SET_CHILD_SUBREAPER = 36
URI_NAME = official.OFFICIAL[rules.DATACENTER].uri_name


@dataclass
class World:
    """`disk`: a small file system of its own, None where none can be mounted; `expected`: the outcome of each
    check, and the scores, of a run without harm."""

    folder: Path
    disk: Path | None
    first: Driver
    second: Driver
    store: StandIn
    checks: dict[str, bool] = field(default_factory=dict)
    scores: dict[str, object] = field(default_factory=dict)

    def run_in(self, place: Path, fresh_cache: bool) -> Run:
        """A run to come, in a folder of its own; `fresh_cache`: with a cache that holds nothing yet."""
        cache = place / "cache" if fresh_cache else self.folder / "work/cache"
        flags = ["--results-dir", str(place / "results"), "--cache-dir", str(cache), "--fake", PACE]
        return Run(flags=flags)

    def place(self, number: int) -> Path:
        """The folder of a round."""
        path = self.folder / "work" / f"round-{number}"
        path.mkdir()
        return path


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """A file system of `size` bytes at `folder`; None where none can be mounted, which root alone can."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def articles() -> bytes:
    """As many rows as MLCommons' own file has, all invented."""
    row = {"instruction": "", "tok_input": [1, 2], "output": "A bridge opened. It is long. " * 4}
    count = rules.SAMPLE_COUNT[rules.DATACENTER]
    return json.dumps([{**row, "input": f"Bridge {n} opened on Monday. " * 9} for n in range(count)]).encode()


@contextmanager
def made(folder: Path) -> Iterator[World]:
    """The world in `folder`, with a run that nobody harmed."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with ExitStack() as stack:
        disk = stack.enter_context(small_disk(folder / "work", DISK_BYTES))
        places = [folder / "first", folder / "second"]
        for path in places:
            path.mkdir()
        first, second = (stack.enter_context(forked_runs.driver(path)) for path in places)
        store = stack.enter_context(standin_servers.serve())
        store.add_r2(URI_NAME, {"cnn_eval.json": articles()})
        world = World(folder, disk, first, second, store)
        run = world.run_in(world.place(0), fresh_cache=False)
        for driver in (first, second):
            driver.results = folder / "work/round-0/results"
        calm = forked_runs.uninterrupted(world.first, run)
        world.second.prepare(forked_runs.tokenizer(calm))
        world.checks, world.scores = outcomes(calm), scores(calm)
        yield world


def scores(run: RunFolder) -> dict[str, object]:
    """ROUGE of every scenario: it follows from the answers alone."""
    results = json.loads(run.file("results.json").read_text(encoding="utf-8"))
    names = ("rouge1", "rouge2", "rougeL", "rougeLsum", "gen_len", "gen_num")
    return {
        scenario: {name: recorded["accuracy"][name] for name in names}
        for scenario, recorded in results["scenarios"].items()
        if recorded.get("accuracy")
    }


def left(world: World) -> list[str]:
    """Command lines of processes that the drivers and scripts started and that are there still."""
    own = {world.first.process.pid, world.second.process.pid}
    # What is older belongs to whoever asked for the rounds.
    begun = psutil.Process(world.first.process.pid).create_time()
    lines = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.pid in own or process.create_time() < begun:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                lines.append(" ".join(process.cmdline()) or process.name())
    return lines


def orphans(world: World) -> list[str]:
    """Those that are left after a while."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while (lines := left(world)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return lines


def hosts_missing() -> str | None:
    """Why no members on hosts of their own can be harmed here."""
    return namespaces.why_not()
