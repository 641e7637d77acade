"""Kills at random moments of a run, each followed by a resume: nothing that was finished is lost or run
again, and in the end the folder is sealed and judged as one that nobody killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pipeline_runs import environment

from mlperf_llama import rules
from mlperf_llama.records import seal
from mlperf_llama.records.files import digest, object_or_empty
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Provenance, Verdict

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SETTINGS = {
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
SOURCES = [["model", "fake", "--run-dir", "run_dir"], ["dataset", "synthetic", "--run-dir", "run_dir"]]
REST = [*SOURCES, ["execute", "--run-dir", "run_dir"]]
PARTS = 4
KILLS, KILLS_OF_ONE_RUN = 20, 5
# Lines of events.jsonl: of a LoadGen run, and of all else.
EVENTS_OF_A_PART, OTHER_EVENTS = 3, 9


@dataclass
class Driver:
    """kill_driver.py, and the folder that its runs go to."""

    results: Path
    process: subprocess.Popen[str]
    log: Path

    def prepare(self, tokenizer: str) -> None:
        self._write(tokenizer)

    def start(self, verbs: list[list[str]]) -> int:
        """Its process's id."""
        self._write(verbs)
        return self._number()

    def _write(self, line: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def end(self) -> int:
        """The exit code of what was started last; of a killed one 128 and the signal."""
        status = self._number()
        return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)

    def _number(self) -> int:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-2000:]
        return int(line)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    log = tmp_path / "log"
    env = environment(tmp_path / "results", SETTINGS) | {
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
    yield Driver(tmp_path / "results", process, log)
    process.kill()
    process.wait()


@dataclass
class Run:
    """One run folder on its way to the end. `finished`: hashes of the logs of each part that was recorded."""

    path: Path | None = None
    finished: dict[str, str] = field(default_factory=dict)

    def verbs(self) -> list[list[str]]:
        if self.path is None:
            return [["create-run"], *REST]
        return [["create-run", "--resume", str(self.path)], *REST]

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


def uninterrupted(driver: Driver) -> dict[str, bool]:
    """How a run is judged that nobody killed."""
    driver.start([["create-run"], *REST])
    assert driver.end() == 0, driver.log.read_text()[-3000:]
    run = RunFolder((driver.results / "latest").resolve())
    model = run.read(Provenance).model
    assert model is not None
    driver.prepare(str(model.path))
    (driver.results / "latest").unlink()
    return outcomes(run)


def outcomes(run: RunFolder) -> dict[str, bool]:
    return {check.name: check.passed for check in run.read(Verdict).checks}


def finish(driver: Driver, run: Run) -> RunFolder:
    driver.start(run.verbs())
    code = driver.end()
    run.look(driver.results)
    assert run.path is not None
    if code == 2 and run.verbs()[0][1] == "--resume":
        assert "found a complete one" in driver.log.read_text()[-600:]
        driver.start([["report", "--run-dir", str(run.path)]])
        code = driver.end()
    assert code == 0, driver.log.read_text()[-3000:]
    return RunFolder(run.path)


def events(run: Run, results: Path) -> int:
    path = (run.path or results / "latest") / "events.jsonl"
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def wait_for_a_moment(run: Run, results: Path, pid: int, draw: random.Random) -> None:
    """A random number of events from the start, and a little more; or the end of the process."""
    missing = PARTS - len(run.finished)
    before, wanted = events(run, results), draw.randrange(OTHER_EVENTS + EVENTS_OF_A_PART * missing)
    with suppress(ProcessLookupError):
        while events(run, results) - before < wanted:
            os.kill(pid, 0)
            time.sleep(0.01)
    time.sleep(draw.uniform(0, 0.2 if wanted else 1.0))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_that_was_finished_is_lost_or_run_again(driver: Driver, number: int) -> None:
    expected = uninterrupted(driver)
    assert expected["seal"] and expected["complete"]
    draw = random.Random(int(number))
    kills, resumed_parts, unfinished = 0, 0, 0
    while kills < KILLS:
        run = Run()
        for _ in range(KILLS_OF_ONE_RUN):
            before = len(run.finished)
            pid = driver.start(run.verbs())
            wait_for_a_moment(run, driver.results, pid, draw)
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            code = driver.end()
            run.look(driver.results)
            if code in (0, 2):
                break
            kills += 1
            resumed_parts += before
        folder = finish(driver, run)
        assert seal.faults(folder) == []
        assert outcomes(folder) == expected
        assert len(run.finished) == PARTS
        unfinished += len(seal.unfinished(folder))
        (driver.results / "latest").unlink()
    # The moments were spread over the run, and what they are to show was there to be seen.
    assert resumed_parts and unfinished
