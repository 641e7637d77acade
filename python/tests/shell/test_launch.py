"""scripts/launch.sh: container or native, and why."""

from __future__ import annotations

import signal

import pytest

from .conftest import Sandbox, alive, wait_for

GPU = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1)\n"


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    sandbox.stub("native.sh", folder=sandbox.root / "scripts")
    sandbox.stub("entrypoint.sh", folder=sandbox.root)
    sandbox.on("entrypoint.sh run", out="/results/native\n")
    sandbox.on("run.sh run", out="/results/container\n")
    return sandbox


def with_gpu(box: Sandbox) -> None:
    box.on("nvidia-smi -L", out=GPU)
    box.stub("nvidia-ctk")


def test_natively_where_no_gpu_answers(box: Sandbox) -> None:
    done = box.run("scripts/launch.sh", "run", "--samples", "8")
    assert (done.returncode, done.stdout) == (0, "/results/native\n")
    assert "natively: no NVIDIA GPU answers here" in done.stderr
    assert box.calls() == ["nvidia-smi -L", "native.sh", "entrypoint.sh run --samples 8"]


def test_in_the_container_with_engine_and_gpu(box: Sandbox) -> None:
    with_gpu(box)
    done = box.run("scripts/launch.sh", "run", "--samples", "8")
    assert (done.returncode, done.stdout) == (0, "/results/container\n")
    assert "in the container: a docker engine and an NVIDIA GPU are here" in done.stderr
    assert box.calls()[-1] == "run.sh run --samples 8"
    assert "native.sh" not in box.calls()


def test_natively_where_other_hosts_are_named(box: Sandbox) -> None:
    with_gpu(box)
    done = box.run("scripts/launch.sh", "run", MLPERF_HOSTS="ray")
    assert "natively: HOSTS=ray is reached from here" in done.stderr
    assert done.stdout == "/results/native\n"
    forced = box.run("scripts/launch.sh", "run", MLPERF_HOSTS="ray", MLPERF_CONTAINER="1")
    assert forced.stdout == "/results/container\n"


def test_natively_where_the_engine_does_not_answer(box: Sandbox) -> None:
    with_gpu(box)
    box.on("docker info", code=1)
    done = box.run("scripts/launch.sh", "run")
    assert "natively: no docker engine answers" in done.stderr
    assert done.stdout == "/results/native\n"


def test_podman_is_asked_where_it_is_named(box: Sandbox) -> None:
    with_gpu(box)
    done = box.run("scripts/launch.sh", "run", MLPERF_DOCKER="no-such-engine")
    assert "natively: no-such-engine is not installed" in done.stderr
    box.stub("podman")
    done = box.run("scripts/launch.sh", "run", MLPERF_DOCKER="podman")
    assert done.stdout == "/results/container\n"
    assert "podman info" in box.calls()


def test_natively_without_the_toolkit(box: Sandbox) -> None:
    box.on("nvidia-smi -L", out=GPU)
    done = box.run("scripts/launch.sh", "run", PATH=f"{box.stubs}:{box.root}/scripts:/usr/bin:/bin")
    assert "natively: the NVIDIA Container Toolkit is not installed" in done.stderr


@pytest.mark.parametrize(("choice", "out"), [("1", "/results/container\n"), ("0", "/results/native\n")])
def test_the_choice_can_be_forced(box: Sandbox, choice: str, out: str) -> None:
    if choice == "0":
        with_gpu(box)
    assert box.run("scripts/launch.sh", "run", MLPERF_CONTAINER=choice).stdout == out


def test_the_choice_may_stand_in_the_env_file(box: Sandbox) -> None:
    (box.root / ".env").write_text("MLPERF_CONTAINER=1\n")
    assert box.run("scripts/launch.sh", "run").stdout == "/results/container\n"
    assert box.run("scripts/launch.sh", "run", MLPERF_CONTAINER="0").stdout == "/results/native\n"


def test_any_other_choice_is_a_wrong_setting(box: Sandbox) -> None:
    done = box.run("scripts/launch.sh", "run", MLPERF_CONTAINER="maybe")
    assert (done.returncode, done.stdout) == (2, "")
    assert "CONTAINER: expected auto, 1 or 0, found 'maybe'" in done.stderr
    assert box.calls() == []


def test_native_only_verbs_never_use_the_container(box: Sandbox) -> None:
    done = box.run("scripts/launch.sh", "--native", "report", MLPERF_CONTAINER="1")
    assert done.returncode == 0
    assert box.calls() == ["native.sh", "entrypoint.sh report"]


def test_a_failed_set_up_ends_it_with_its_code(box: Sandbox) -> None:
    box.on("native.sh", code=3)
    done = box.run("scripts/launch.sh", "run")
    assert (done.returncode, done.stdout) == (3, "")
    assert not any(c.startswith("entrypoint.sh") for c in box.calls())


def test_what_set_up_prints_is_not_the_result(box: Sandbox) -> None:
    box.on("native.sh", out="chatter\n")
    done = box.run("scripts/launch.sh", "run")
    assert done.stdout == "/results/native\n"
    assert "chatter" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_set_up_ends_it_too(box: Sandbox, number: signal.Signals) -> None:
    box.on("native.sh", sleep=300)
    done = box.interrupt(["scripts/launch.sh", "run"], number, "native.sh")
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert not any(c.startswith("entrypoint.sh") for c in box.calls())
    wait_for(lambda: not alive(str(box.log)), "a child outlived the script")


@pytest.mark.parametrize(("choice", "call"), [("1", "run.sh prepare"), ("0", "native.sh")])
def test_prepare_builds_or_sets_up(box: Sandbox, choice: str, call: str) -> None:
    assert box.run("scripts/launch.sh", "prepare", MLPERF_CONTAINER=choice).returncode == 0
    assert box.calls() == [call]


def test_doctor_needs_no_environment(box: Sandbox) -> None:
    box.stub("python3.11")
    assert box.run("scripts/launch.sh", "--native", "doctor").returncode == 0
    assert box.calls()[-1] == "python3.11 -P -s -m mlperf_llama doctor"
    assert "native.sh" not in box.calls()


@pytest.mark.parametrize("works", [True, False])
def test_doctor_never_sets_up(box: Sandbox, works: bool) -> None:
    """Nor where a set-up ended half-way; a Python that does not start is passed over."""
    box.stub("python3.11")
    box.stub("python", folder=box.venv / "bin")
    if not works:
        box.on("python -c", code=127)
    assert box.run("scripts/launch.sh", "--native", "doctor").returncode == 0
    assert box.calls()[-1] == ("entrypoint.sh doctor" if works else "python3.11 -P -s -m mlperf_llama doctor")
    assert "native.sh" not in box.calls()


def test_a_driver_that_fails_is_said_in_its_own_words(box: Sandbox) -> None:
    box.on("nvidia-smi -L", out="Driver/library version mismatch\n", code=18)
    done = box.run("scripts/launch.sh", "run")
    assert "natively: nvidia-smi: Driver/library version mismatch (code 18): reboot" in done.stderr
    assert "no NVIDIA GPU answers" not in done.stderr
