"""scripts/host.sh: what nvidia-smi's answer, failure and silence say of the machine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from .conftest import Sandbox

PROBE = "set -Eeuo pipefail; source scripts/lib.sh; source scripts/host.sh; SMI_LIMIT_S=1; probe_gpu; "
PRINT = 'printf "%s|%s" "$gpu_state" "$gpu_failure"'
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.95\n"


@pytest.mark.parametrize(
    ("act", "said"),
    [
        ({"out": "GPU 0: NVIDIA GB10 (UUID: GPU-1)\n"}, "present|"),
        ({"out": "GPU 0: NVIDIA A30\n", "err": "GPU is lost\n", "code": 15}, "present|"),
        ({"out": "No devices found.\n"}, "none|"),
        ({"code": 6}, "none|"),
        ({"code": 9, "out": "NVIDIA-SMI has failed\n"}, "none|"),
        (
            {"out": MISMATCH, "code": 18},
            "failing|nvidia-smi: Failed to initialize NVML: Driver/library version mismatch; "
            "NVML library version: 580.95 (code 18)",
        ),
        ({"sleep": 300}, "failing|nvidia-smi has not answered in 1 s"),
    ],
)
def test_probe(sandbox: Sandbox, act: dict[str, object], said: str) -> None:
    sandbox.on("nvidia-smi -L", **act)
    started = time.monotonic()
    done = sandbox.run("bash", "-c", PROBE + PRINT)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    assert time.monotonic() - started < 20


def test_it_is_asked_once(sandbox: Sandbox) -> None:
    sandbox.run("bash", "-c", PROBE + "has_gpu || has_gpu || true")
    assert sandbox.calls() == ["nvidia-smi -L"]


def test_no_nvidia_smi_is_no_gpu(sandbox: Sandbox) -> None:
    (sandbox.stubs / "nvidia-smi").unlink()
    assert sandbox.run("bash", "-c", PROBE + PRINT, PATH="/usr/bin:/bin").stdout == "none|"


NAMED = ("DATASET_SOURCE", "MODEL", "CALIBRATION", "PRESET", "SYSTEM_FILE", "INFERENCE_DIR", "ENV_FILE")


@pytest.mark.parametrize("name", NAMED)
def test_the_container_sees_what_a_setting_names(sandbox: Sandbox, tmp_path: Path, name: str) -> None:
    path = tmp_path / "named here"
    path.touch()
    script = (
        "set -Eeuo pipefail; source scripts/lib.sh; source docker/options.sh; "
        'options=() results=/nowhere; add_bind_mounts; printf "%s\n" "${options[@]}"'
    )
    done = sandbox.run("bash", "-c", script, **{f"MLPERF_{name}": str(path)})
    assert done.stdout.splitlines() == ["--volume", f"{path}:{path}:ro"]


@pytest.mark.parametrize("visible", ["1", ""])
def test_the_container_gets_the_choice_of_gpus(sandbox: Sandbox, visible: str) -> None:
    script = (
        "set -Eeuo pipefail; source scripts/lib.sh; source scripts/pip.sh; source docker/options.sh; "
        'options=(); add_environment; printf "%s " "${options[@]}"'
    )
    done = sandbox.run("bash", "-c", script, CUDA_VISIBLE_DEVICES=visible, CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert "--env CUDA_VISIBLE_DEVICES " in done.stdout and "--env CUDA_DEVICE_ORDER " in done.stdout
