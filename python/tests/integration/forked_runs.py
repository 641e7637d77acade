"""Runs in forks of one process (kill_driver.py), to be harmed at a random moment, and what of them must stand
whatever happens: what was finished stays as it was, and in the end the folder is judged as any other."""

from __future__ import annotations

import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeAlias

import psutil
from pipeline_runs import environment

from mlperf_llama import rules
from mlperf_llama.records.files import digest, object_or_empty
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Provenance, Verdict

HERE = Path(__file__).parent
SETTINGS: dict[str, object] = {
    "ENGINE": "fake",
    "FAKE": json.dumps({"samples_per_s": 4000}),
    "DATASET_SOURCE": "synthetic",
    "SCENARIO": "Offline,Server",
    "MODE": "performance,accuracy",
    "SAMPLES": 8,
    "DURATION_S": 0,
    "TARGET_QPS": 1000,
    "SCORE_WORKERS": 1,
}
# A verb with its arguments, or several of which the first that serves is taken.
Step: TypeAlias = "list[str] | list[list[str]]"
IN_RUN = ["--run-dir", "run_dir"]
REST: list[Step] = [["model", "fake", *IN_RUN], ["dataset", "synthetic", *IN_RUN], ["execute", *IN_RUN]]
PARTS = 4
# Lines of events.jsonl: of a LoadGen run, and of all else.
EVENTS_OF_A_PART, OTHER_EVENTS = 3, 9
# Of one command, on a machine that does other work too.
LIMIT_S = 60.0


@dataclass
class Driver:
    """kill_driver.py, and the folder that its runs go to."""

    results: Path
    process: subprocess.Popen[str]
    log: Path
    lines: queue.Queue[str]

    def prepare(self, tokenizer: str) -> None:
        self._write(tokenizer)

    def start(self, verbs: list[Step]) -> int:
        """Its process's id."""
        self._write(verbs)
        return self._number(LIMIT_S)

    def _write(self, line: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def end(self, limit_s: float = LIMIT_S) -> int:
        """The exit code of what was started last; of a killed one 128 and the signal."""
        status = self._number(limit_s)
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)

    def _number(self, limit_s: float) -> int:
        try:
            return int(self.lines.get(timeout=limit_s))
        except queue.Empty:
            raise TimeoutError(f"no end within {limit_s:g} s: {self.log.read_text()[-2000:]}") from None


@contextmanager
def driver(folder: Path, settings: Mapping[str, object] = SETTINGS) -> Iterator[Driver]:
    """A driver whose log and results lie in `folder`."""
    log = folder / "log"
    env = environment(folder / "results", dict(settings)) | {
        "OPENBLAS_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "0",
    }
    process = subprocess.Popen(
        [sys.executable, str(HERE / "kill_driver.py"), str(log)],
        env=env | {"PYTHONPATH": str(HERE.parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=_hand_on, args=(process.stdout, lines)).start()
    try:
        yield Driver(folder / "results", process, log, lines)
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()


def _hand_on(output: IO[str], lines: queue.Queue[str]) -> None:
    for line in output:
        lines.put(line)


@dataclass
class Run:
    """One run folder on its way to the end. `finished`: hashes of the logs of each part that was recorded;
    `flags`: of create-run; `rest`: what follows it."""

    path: Path | None = None
    finished: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    rest: list[Step] = field(default_factory=lambda: list(REST))

    def verbs(self) -> list[Step]:
        if self.path is None:
            return [["create-run", *self.flags], *self.rest]
        return [["create-run", "--resume", str(self.path)], *self.rest]

    def look(self, results: Path) -> None:
        """After a kill: which parts were finished; those of before must be as they were."""
        latest = results / "latest"
        if self.path is None and (latest / "config.json").is_file():
            self.path = latest.resolve()
        if self.path is None:
            return
        run = RunFolder(self.path)
        scenarios = object_or_empty(run.file("results.json")).get("scenarios", {})
        assert isinstance(scenarios, dict)
        for scenario, recorded in scenarios.items():
            for mode in set(rules.MODES) & recorded.keys():
                log = run.log_dir(scenario, mode) / "mlperf_log_detail.txt"
                first = self.finished.setdefault(f"{scenario} {mode}", digest(log))
                assert digest(log) == first, f"{scenario} {mode} was run again"


def uninterrupted(driver: Driver, run: Run | None = None) -> RunFolder:
    """A run that nobody harms; from then on the driver knows its tokenizer."""
    driver.start((run or Run()).verbs())
    code = driver.end()
    assert code == 0, driver.log.read_text()[-3000:]
    calm = RunFolder((driver.results / "latest").resolve())
    driver.prepare(tokenizer(calm))
    (driver.results / "latest").unlink()
    return calm


def tokenizer(run: RunFolder) -> str:
    model = run.read(Provenance).model
    assert model is not None
    return str(model.path)


def outcomes(run: RunFolder) -> dict[str, bool]:
    """How a run is judged."""
    return {check.name: check.passed for check in run.read(Verdict).checks}


def finish(driver: Driver, run: Run, codes: tuple[int, ...] = (0,)) -> RunFolder:
    """Resume it, undisturbed; a complete one is judged again. `codes`: how that may end."""
    driver.start(run.verbs())
    code = driver.end()
    run.look(driver.results)
    assert run.path is not None
    if code == 2 and run.verbs()[0][1] == "--resume":
        assert "found a complete one" in driver.log.read_text()[-600:]
        driver.start([["report", "--run-dir", str(run.path)]])
        code = driver.end()
    assert code in codes, driver.log.read_text()[-3000:]
    return RunFolder(run.path)


def events(run: Run, results: Path) -> int:
    path = (run.path or results / "latest") / "events.jsonl"
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def wait_for_a_moment(
    run: Run, results: Path, pid: int, draw: random.Random, most: tuple[float, float] = (1.0, 0.2)
) -> None:
    """A random number of events from the start, and a little more; or the end of the process. `most`: seconds
    more, where no event is waited for, and else."""
    missing = PARTS - len(run.finished)
    before, wanted = events(run, results), draw.randrange(OTHER_EVENTS + EVENTS_OF_A_PART * missing)
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while events(run, results) - before < wanted and process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    time.sleep(draw.uniform(0, most[1] if wanted else most[0]))
