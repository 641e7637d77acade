"""A pipe in the place of a file is named or passed over, and never waited for."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import run_folders as folders
import submission_trees as trees

from mlperf_llama import report, verdict
from mlperf_llama.errors import PipelineError
from mlperf_llama.loadgen import accuracy_log, logs
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.submission import tree

LIMIT_S = 20
OFFLINE = (
    "Offline/performance/run_1/mlperf_log_detail.txt",
    "Offline/performance/run_1/mlperf_log_summary.txt",
    "Offline/accuracy/mlperf_log_accuracy.json",
    "Offline/accuracy/accuracy.txt",
    "Offline/TEST06/mlperf_log_accuracy.json",
    "Offline/TEST06/verify_accuracy.txt",
)
RECORDS = ("provenance.json", "results.json", "system.json", "engine.json", "environment.json", "scales.json")


@contextmanager
def in_time() -> Iterator[None]:
    """The test fails where the block waits for a pipe that nobody writes to."""

    def late(signum: int, frame: object) -> None:
        pytest.fail(f"still waiting after {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def put_pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize("name", [logs.DETAIL, logs.ACCURACY])
def test_loadgens_logs_are_files(name: str, tmp_path: Path) -> None:
    put_pipe(tmp_path / name)
    refused = pytest.raises(PipelineError, match=f"{name}: expected .*found a folder, a pipe or a device")
    with in_time(), refused:
        if name == logs.DETAIL:
            logs.read_detail(tmp_path)
        else:
            accuracy_log.read(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RECORDS, *OFFLINE])
def test_the_verdict_waits_for_none(run: RunFolder, name: str) -> None:
    put_pipe(run.file(name))
    with in_time():
        (seal,) = [c for c in verdict.examine(run) if c.name == "seal"]
    assert not seal.passed and f"{name} is a named pipe" in seal.detail


@pytest.mark.slow
@pytest.mark.parametrize("name", [*RECORDS, "events.jsonl", "hashes.json", "verdict.json", OFFLINE[0]])
def test_the_report_waits_for_none(run: RunFolder, name: str) -> None:
    put_pipe(run.file(name))
    with in_time():
        report.write(run)
    assert run.file("report.md").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("name", ["events.jsonl", "results.json"])
def test_the_report_names_it(run: RunFolder, name: str) -> None:
    put_pipe(run.file(name))
    with in_time():
        report.write(run)
    assert f"{name}: expected a file, found a folder, a pipe or a device" in run.file("report.md").read_text()


@pytest.mark.slow
def test_a_tree_s_check_waits_for_none(tmp_path: Path) -> None:
    root = trees.packed(tmp_path, folders.good_run(tmp_path / "run"))
    layout = trees.layout_of(root)
    readme = layout.measurements("Offline") / "README.md"
    put_pipe(readme)
    with in_time():
        failed = {c.name: c.detail for c in tree.examine(root) if c.passed is not True}
    assert [detail for name, detail in failed.items() if name.endswith("Offline.metadata")] == [
        "missing or empty: README.md"
    ]
