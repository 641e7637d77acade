"""test_pipeline.sh: its ten names, what PASS, FAIL and SKIP are, the summary, the exit code."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from .conftest import Sandbox, alive, wait_for

NAMES = [
    "shell syntax and lint",
    "Python syntax and types",
    "settings",
    "disk and memory",
    "network reach",
    "Docker",
    "GPU",
    "dataset chain",
    "pipeline with the fake engine through every exit code",
    "results contract",
]


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """Stubs decide every category: lint.sh and the checks' Python."""
    sandbox.stub("native.sh", "lint.sh", folder=sandbox.root / "scripts")
    sandbox.stub("python", folder=sandbox.venv / "bin")
    return sandbox


def results(done: subprocess.CompletedProcess[str]) -> list[tuple[str, str]]:
    return re.findall(r"^(PASS|FAIL|SKIP)  (.*?)(?::.*)? \(.*\)$", done.stdout, re.MULTILINE)


def test_ten_categories_by_name_and_a_summary_line(box: Sandbox) -> None:
    done = box.run("./test_pipeline.sh")
    assert results(done) == [("PASS", name) for name in NAMES]
    assert done.stdout.splitlines()[-1] == "10 passed, 0 failed, 0 skipped"
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_missing_here_is_skipped_with_its_reason(box: Sandbox) -> None:
    box.on("python python/tests/pipeline/check.py gpu", code=3, out="noise\nno NVIDIA GPU answers here\n")
    done = box.run("./test_pipeline.sh")
    assert "SKIP  GPU (no NVIDIA GPU answers here)\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "9 passed, 0 failed, 1 skipped"
    assert done.returncode == 0


@pytest.mark.parametrize("code", [1, 2, 4, 5, 127])
def test_any_other_code_fails_and_shows_everything_it_said(box: Sandbox, code: int) -> None:
    box.on("lint.sh shell", code=code, out="first line\n", err="second line\n")
    done = box.run("./test_pipeline.sh")
    assert done.stdout.startswith(f"FAIL  shell syntax and lint (code {code}, ")
    assert "      first line\n      second line\n" in done.stdout
    assert done.stdout.splitlines()[-1] == "9 passed, 1 failed, 0 skipped"
    assert done.returncode == 1


def test_words_choose_categories(box: Sandbox) -> None:
    assert [name for _, name in results(box.run("./test_pipeline.sh", "GPU", "chain"))] == [
        "GPU",
        "dataset chain",
    ]
    assert box.run("./test_pipeline.sh", "no such category").returncode == 2


def test_without_a_folder_for_temporary_files_no_category_runs(box: Sandbox) -> None:
    done = box.run("./test_pipeline.sh", TMPDIR="/nowhere")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)


def test_a_failed_set_up_ends_it_before_any_category(box: Sandbox) -> None:
    box.on("native.sh", code=3)
    done = box.run("./test_pipeline.sh")
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_its_child(box: Sandbox, number: signal.Signals) -> None:
    box.on("lint.sh python", sleep=300)
    done = box.interrupt(["./test_pipeline.sh"], number, "lint.sh python")
    assert done.returncode == 128 + number
    assert len(box.calls()) == 3
    wait_for(lambda: not alive(str(box.log)), "a child outlived the script")
