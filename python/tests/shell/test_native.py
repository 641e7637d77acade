"""scripts/native.sh: the environment is made once, whole, by one, and found quickly."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from .conftest import ROOT, Sandbox, alive, wait_for

STEPS = ("pip", "packages", "loadgen", "nltk")
GPU_LISTED = "GPU 0: NVIDIA A30\n"


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """A stub Python 3.11 whose `-m venv DIR` puts a stub python into DIR."""
    sandbox.stub("python3.11")
    sandbox.on("python3.11 -m venv", copy="{last}/bin/python")
    return sandbox


def steps(box: Sandbox) -> list[str]:
    return [call for call in box.calls() if call.startswith("environment.sh")]


def test_every_step_once_then_nothing(box: Sandbox) -> None:
    done = box.run("scripts/native.sh")
    assert (done.returncode, done.stdout) == (0, "")
    assert sorted(steps(box)) == sorted(f"environment.sh {box.venv} cpu {step}" for step in STEPS)
    assert steps(box)[-1].endswith("nltk")
    assert "set-up: ready" in done.stderr
    before = len(box.calls())
    again = box.run("scripts/native.sh")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert box.calls()[before:] == ["nvidia-smi -L"]


def test_hosts_ray_adds_ray_and_nothing_else_changes(box: Sandbox) -> None:
    box.run("scripts/native.sh")
    before = len(box.calls())
    done = box.run("scripts/native.sh", MLPERF_HOSTS="ray")
    assert done.returncode == 0
    added = box.calls()[before:]
    [pip] = [call for call in added if " pip install " in f" {call} "]
    assert "--no-deps --require-hashes" in pip and pip.endswith("/locks/ray.lock")
    assert not [call for call in added if call.startswith("environment.sh")]
    before = len(box.calls())
    for hosts in ("ray", "", "a,b"):
        assert box.run("scripts/native.sh", MLPERF_HOSTS=hosts).stderr == ""
    assert box.calls()[before:] == ["nvidia-smi -L"] * 3


def test_a_finished_environment_costs_little(box: Sandbox) -> None:
    box.run("scripts/native.sh")
    (box.stubs / "nvidia-smi").unlink()
    times = []
    for _ in range(5):
        started = time.monotonic()
        box.run("scripts/native.sh")
        times.append(time.monotonic() - started)
    assert min(times) < 0.2


def test_a_gpu_decides_the_build(box: Sandbox) -> None:
    box.on("nvidia-smi -L", out=GPU_LISTED)
    box.run("scripts/native.sh")
    assert f"environment.sh {box.venv} cuda packages" in steps(box)


def test_a_failing_gpu_changes_no_finished_environment(box: Sandbox) -> None:
    box.on("nvidia-smi -L", out=GPU_LISTED)
    box.run("scripts/native.sh")
    before = steps(box)
    box.on("nvidia-smi -L", out="version mismatch\n", code=18)
    assert box.run("scripts/native.sh").returncode == 0
    assert steps(box) == before


@pytest.mark.parametrize(
    ("before", "after", "kept", "refused"),
    [("", GPU_LISTED, "cpu", "cuda"), (GPU_LISTED, "", "cuda", "cpu")],
    ids=["appeared", "vanished"],
)
def test_a_gpu_that_came_or_went_empties_no_finished_environment(
    box: Sandbox, before: str, after: str, kept: str, refused: str
) -> None:
    box.on("nvidia-smi -L", out=before)
    box.run("scripts/native.sh")
    made = steps(box)
    (box.venv / "kept").touch()
    box.plan.pop()
    box.on("nvidia-smi -L", out=after)
    done = box.run("scripts/native.sh")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert f"expected a {refused} environment by what nvidia-smi says, found a finished {kept} one" in line
    assert f"TARGET={kept} uses it" in line and f"TARGET={refused} makes it anew" in line
    assert (box.venv / "kept").exists() and steps(box) == made
    assert box.run("scripts/native.sh", MLPERF_TARGET=kept).returncode == 0
    assert (box.venv / "kept").exists() and steps(box) == made
    assert box.run("scripts/native.sh", MLPERF_TARGET=refused).returncode == 0
    assert f"environment.sh {box.venv} {refused} packages" in steps(box)
    assert not (box.venv / "kept").exists()


def test_a_failing_gpu_stands_for_no_build(box: Sandbox) -> None:
    box.on("nvidia-smi -L", out="version mismatch\n", code=18)
    done = box.run("scripts/native.sh")
    assert done.returncode == 3 and steps(box) == []
    assert "nvidia-smi: version mismatch (code 18): reboot" in done.stderr and "TARGET=cpu" in done.stderr
    assert box.run("scripts/native.sh", MLPERF_TARGET="cpu").returncode == 0


def test_target_decides_before_the_gpu(box: Sandbox) -> None:
    box.on("nvidia-smi -L", out=GPU_LISTED)
    box.run("scripts/native.sh", MLPERF_TARGET="cpu")
    assert f"environment.sh {box.venv} cpu packages" in steps(box)
    done = box.run("scripts/native.sh", MLPERF_TARGET="tpu")
    assert done.returncode == 2
    assert "TARGET: expected cpu or cuda, found 'tpu'" in done.stderr


def test_a_changed_lock_is_installed_from_nothing(box: Sandbox) -> None:
    box.run("scripts/native.sh")
    (box.venv / "left-over").touch()
    with (box.root / "locks/cpu.lock").open("a") as lock:
        lock.write("one-more==1.0\n")
    assert box.run("scripts/native.sh").returncode == 0
    assert len(steps(box)) == 2 * len(STEPS)
    assert not (box.venv / "left-over").exists()


def test_tools_come_only_when_asked(box: Sandbox) -> None:
    box.run("scripts/native.sh")
    assert not any("locks/dev.lock" in call for call in box.calls())
    box.run("scripts/native.sh", "--dev")
    box.run("scripts/native.sh", "--dev")
    installs = [call for call in box.calls() if "locks/dev.lock" in call]
    assert len(installs) == 1
    assert "--require-hashes" in installs[0] and "--no-deps" in installs[0]
    assert len(steps(box)) == len(STEPS)


def test_a_command_runs_inside(box: Sandbox) -> None:
    box.run("scripts/native.sh")
    done = box.run("scripts/native.sh", "bash", "-c", 'printf "%s" "$PATH"; exit 7')
    assert done.returncode == 7
    assert done.stdout.startswith(f"{box.venv}/bin:")


@pytest.mark.parametrize("step", STEPS)
def test_a_failed_step_says_why_and_is_done_again(box: Sandbox, step: str) -> None:
    box.on(f"environment.sh {box.venv} cpu {step}", code=1, err="ERROR: no such package\n")
    done = box.run("scripts/native.sh")
    assert (done.returncode, done.stdout) == (3, "")
    assert "ERROR: no such package" in done.stderr
    assert "then run the same command again" in done.stderr
    assert not list(box.venv.glob(".stamp*"))
    box.plan.pop(0)
    assert box.run("scripts/native.sh").returncode == 0
    assert list(box.venv.glob(".stamp*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_set_up_is_done_again(box: Sandbox, number: signal.Signals) -> None:
    step = f"environment.sh {box.venv} cpu packages"
    box.on(step, sleep=300)
    done = box.interrupt(["scripts/native.sh"], number, step)
    assert done.returncode == 128 + number
    assert not list(box.venv.glob(".stamp*"))
    wait_for(lambda: not alive(str(box.log)), "a child outlived the script")
    box.plan.pop(0)
    assert box.run("scripts/native.sh").returncode == 0
    assert steps(box).count(step) == 2


def test_two_at_once_make_it_once(box: Sandbox) -> None:
    box.on(f"environment.sh {box.venv} cpu packages", sleep=2)
    first = box.start("scripts/native.sh")
    wait_for(lambda: bool(steps(box)), "no step was started")
    second = box.run("scripts/native.sh")
    assert second.returncode == 0
    assert "another set-up is at work" in second.stderr
    assert first.wait(60) == 0
    first.communicate()
    assert len(steps(box)) == len(STEPS)


def test_a_folder_of_someone_else_is_never_emptied(box: Sandbox) -> None:
    box.venv.mkdir()
    (box.venv / "precious").touch()
    done = box.run("scripts/native.sh")
    assert done.returncode == 2
    assert f"VENV: expected no folder, or one made by this script, found {box.venv}" in done.stderr
    assert (box.venv / "precious").exists()


@pytest.fixture
def bare_path(box: Sandbox, tmp_path: Path) -> str:
    """A PATH with the stubs and everything of the system but its Pythons."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in Path("/usr/bin").iterdir():
        if not tool.name.startswith("python"):
            (tools / tool.name).symlink_to(tool)
    return f"{box.stubs}:{tools}"


def test_no_python_of_the_right_version(box: Sandbox, bare_path: str) -> None:
    box.on("python3.11 -c", code=1)
    done = box.run("scripts/native.sh", PATH=bare_path)
    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert "expected Python 3.11 or 3.12 with venv, found none: install one" in line
    assert "uv python install 3.12" in line and "CONTAINER=1" in line
    assert steps(box) == []


@pytest.mark.parametrize("command", [("scripts/native.sh",), ("scripts/launch.sh", "--native", "doctor")])
def test_what_there_is_of_python_is_named(box: Sandbox, bare_path: str, command: tuple[str, ...]) -> None:
    box.stub("python3")
    box.on("python3.11 -c", code=1)
    box.on("python3 -c import sys, ", code=1)
    box.on("python3 -c import importlib", out="3.10.12 (/usr/bin/python3.10)\n")
    done = box.run(*command, PATH=bare_path)
    assert (done.returncode, done.stdout) == (3, "")
    [line] = done.stderr.splitlines()
    assert "expected Python 3.11 or 3.12 with venv, found Python 3.10.12 (/usr/bin/python3.10): " in line


def test_a_python_that_uv_keeps_is_taken(box: Sandbox, bare_path: str) -> None:
    box.on("python3.11 -c", code=1)
    box.stub("python3", folder=box.home / ".local/share/uv/python/cpython-3.12.1-linux/bin")
    box.on("python3 -m venv", copy="{last}/bin/python")
    assert box.run("scripts/native.sh", PATH=bare_path).returncode == 0


@pytest.mark.parametrize(
    ("pip_log", "named"),
    [
        (
            "HTTPSConnectionPool(host='wheels.example', port=443): Max retries exceeded\n",
            "wheels.example did not",
        ),
        ("", "check the network and the free disk space, then run"),
    ],
)
def test_a_failed_set_up_names_the_host_that_did_not_answer(box: Sandbox, pip_log: str, named: str) -> None:
    script = box.root / "scripts/environment.sh"
    script.write_text(f"#!/bin/sh\nprintf '%s' \"{pip_log}\" >$PIP_LOG\nexit 1\n")
    done = box.run("scripts/native.sh")
    assert done.returncode == 3
    assert named in done.stderr and "run the same command again" in done.stderr
    assert ("PIP_INDEX_URL" in done.stderr) == bool(pip_log)


def test_the_next_python_is_tried_when_the_first_does_not_answer(box: Sandbox, bare_path: str) -> None:
    """A version manager's shim stands first on PATH and says: not installed."""
    box.stub("python3.12")
    box.on("python3.11 -c", code=127)
    box.on("python3.12 -m venv", copy="{last}/bin/python")
    assert box.run("scripts/native.sh", PATH=bare_path).returncode == 0
    assert [call for call in box.calls() if " -m venv " in call] == [f"python3.12 -m venv {box.venv}"]


def test_a_set_up_without_a_folder_for_temporary_files_is_code_3(box: Sandbox) -> None:
    done = box.run("scripts/native.sh", TMPDIR="/nowhere")
    assert (done.returncode, done.stdout) == (3, "")
    assert "set TMPDIR" in done.stderr
    assert not steps(box)


def test_nothing_is_installed_without_its_hash() -> None:
    script = (ROOT / "scripts/environment.sh").read_text()
    installs = re.findall(r"^ .*(?:pip_install|pip download)\b.*(?:\\\n.*)?", script, re.MULTILINE)
    assert len(installs) >= 7
    assert [line for line in installs if "--require-hashes" not in line] == []
    for lock in (ROOT / "locks").glob("*.lock"):
        text = lock.read_text()
        assert (
            re.findall(r"^\S+==\S+(?! \\\n    --hash=sha256:[0-9a-f]{64})\s*$", text, re.MULTILINE) == []
        ), lock
