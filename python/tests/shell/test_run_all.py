"""run_all.sh: the stages in order, one folder on stdout, the run's own code."""

from __future__ import annotations

import re
import signal

import pytest

from .conftest import Sandbox, alive, wait_for


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    sandbox.stub("launch.sh", folder=sandbox.root / "scripts")
    sandbox.on("launch.sh", out="chatter\n")
    sandbox.on("launch.sh run", out="/results/x\n")
    return sandbox


def test_every_stage_in_order_and_the_folder_alone_on_stdout(box: Sandbox) -> None:
    done = box.run("./run_all.sh")
    assert (done.returncode, done.stdout) == (0, "/results/x\n")
    assert box.calls() == [
        "launch.sh --native doctor",
        "launch.sh prepare",
        "nvidia-smi -L",
        "launch.sh run",
        "launch.sh verdict",
        "launch.sh report",
    ]
    heads = re.findall(r"^\d\d:\d\d:\d\d == (.*) done \(\d+ s\)$", done.stderr, re.MULTILINE)
    assert heads == ["preflight", "set-up", "GPU check", "run: all, all", "verdict", "report"]
    assert "\033" not in done.stderr


@pytest.mark.parametrize(
    ("env_file", "env", "scenario"),
    [
        ("", {}, "all"),
        ("MLPERF_SCENARIO=Server\n", {}, "Server"),
        ("MLPERF_SCENARIO=Server\n", {"MLPERF_SCENARIO": "Offline"}, "Offline"),
    ],
)
def test_every_scenario_unless_one_was_chosen(
    box: Sandbox, env_file: str, env: dict[str, str], scenario: str
) -> None:
    (box.root / ".env").write_text(env_file)
    box.on("launch.sh run", env=True)
    assert f'"MLPERF_SCENARIO": "{scenario}"' in box.run("./run_all.sh", **env).stdout


def test_the_doctors_advice_does_not_end_it(box: Sandbox) -> None:
    box.on("launch.sh --native doctor", code=3)
    assert box.run("./run_all.sh").returncode == 0


def test_an_invalid_run_is_still_reported(box: Sandbox) -> None:
    box.on("launch.sh run", code=5, out="/results/x\n")
    done = box.run("./run_all.sh")
    assert (done.returncode, done.stdout) == (5, "/results/x\n")
    assert box.calls()[-1] == "launch.sh report"
    assert "finished but not valid (5)" in done.stderr


def test_a_run_that_created_nothing_has_no_report(box: Sandbox) -> None:
    box.on("launch.sh run", code=2)
    done = box.run("./run_all.sh")
    assert (done.returncode, done.stdout) == (2, "")
    assert box.calls()[-1] == "launch.sh run"


def test_a_failed_set_up_ends_it(box: Sandbox) -> None:
    box.on("launch.sh prepare", code=3)
    done = box.run("./run_all.sh")
    assert (done.returncode, done.stdout) == (3, "")
    assert box.calls()[-1] == "launch.sh prepare"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["--native doctor", "prepare", "run"])
def test_a_signal_ends_it_with_its_child(box: Sandbox, number: signal.Signals, stage: str) -> None:
    box.on(f"launch.sh {stage}", sleep=300)
    done = box.interrupt(["./run_all.sh"], number, f"launch.sh {stage}")
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert box.calls()[-1] == f"launch.sh {stage}"
    wait_for(lambda: not alive(str(box.log)), "a child outlived the script")


def test_without_a_folder_for_temporary_files_nothing_starts(box: Sandbox) -> None:
    done = box.run("./run_all.sh", TMPDIR="/nowhere")
    assert (done.returncode, done.stdout, done.stderr.count("\n"), box.calls()) == (3, "", 1, [])


def test_it_takes_no_flags(box: Sandbox) -> None:
    assert box.run("./run_all.sh", "--fast").returncode == 2
    assert box.calls() == []
