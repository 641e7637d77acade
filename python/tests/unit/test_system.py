"""The system description and the GPU sampler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlperf_llama.machine import gpus, system

CPUINFO = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8480+
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2 avx512f amx_bf16

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8480+
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx2 avx512f amx_bf16

processor\t: 2
model name\t: Intel(R) Xeon(R) Platinum 8480+
physical id\t: 1
core id\t\t: 0
flags\t\t: fpu avx2 avx512f amx_bf16
"""
SMI = """0, NVIDIA H100 80GB HBM3, GPU-1, 81559, 580.82.07, 700.00, 1980, 2619, 5, 16, 9.0
1, NVIDIA A30, GPU-2, 24576, 570.1, [N/A], 1440, 1215, 4, 16, 8.0
broken, row
"""


class Nvml:
    """An NVML with one H100, which does not know its NVLinks."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self) -> None:
        self.readings = 0

    def nvmlDeviceGetCount(self) -> int:
        return 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> bytes:
        return b"NVIDIA H100 80GB HBM3"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.82.07"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13010

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=80 * 1024**3, used=70 * 1024**3)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return 700_000

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        self.readings += 1
        return 690_400

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        return 1530

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        return 61

    def nvmlShutdown(self) -> None:
        pass


def test_cpuinfo_counts_sockets_cores_and_threads() -> None:
    found = system.parse_cpuinfo(CPUINFO)
    assert (found["sockets"], found["cores"], found["threads"]) == (2, 2, 3)
    assert found["model"] == "Intel(R) Xeon(R) Platinum 8480+"
    assert found["features"] == ["avx2", "avx512f", "amx_bf16"]


def test_cpuinfo_of_an_arm_machine() -> None:
    found = system.parse_cpuinfo("processor\t: 0\nFeatures\t: fp asimd bf16\nCPU part\t: 0xd4f\n")
    assert found["threads"] == 1 and found["features"] == ["asimd", "bf16"] and found["sockets"] is None


def test_describe_holds_everything_and_is_plain_json() -> None:
    found = system.describe({})
    assert json.loads(json.dumps(found)) == found
    assert found["cpu"]["usable_threads"] >= 1 and found["memory"]["total_gib"] > 0
    assert found["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert isinstance(found["gpus"], list) and found["packages"].get("numpy")


def test_describe_imports_no_torch_and_is_quick() -> None:
    code = (
        "import sys, time; from mlperf_llama.machine import system; t = time.monotonic();"
        "system.describe({});"
        "print(time.monotonic() - t, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    env = {"PYTHONPATH": str(Path(system.__file__).parents[2]), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    seconds, torch, numpy = done.stdout.split()
    assert (torch, numpy) == ("False", "False")
    # Half a second is aimed at; a contended machine gets time.
    assert float(seconds) < 5


def test_an_image_names_its_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_git", lambda *_: None)
    assert system.source({"MLPERF_GIT_COMMIT": "abc123"}) == {
        "commit": "abc123",
        "dirty": None,
        "from": "image",
    }
    assert system.source({})["commit"] is None


def test_a_git_repository_names_its_commit_and_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True)

    (tmp_path / "package").mkdir()
    file = tmp_path / "package" / "system.py"
    file.write_text("one")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.setattr(system, "__file__", str(file))
    clean = system.source({"MLPERF_GIT_COMMIT": "stale"})
    assert len(clean["commit"]) == 40 and clean["dirty"] is False and clean["from"] == "git"
    file.write_text("two")
    assert system.source({})["dirty"] is True


def test_nvidia_smi_rows() -> None:
    first, second = gpus.parse_smi(SMI)
    assert first["name"] == "NVIDIA H100 80GB HBM3" and first["memory_gib"] == 79.65
    assert first["power_limit_w"] == 700.0 and second["power_limit_w"] is None
    assert gpus.summary([first, first, second]) == "2 x NVIDIA H100 80GB HBM3, 1 x NVIDIA A30"


def test_nvml_description_leaves_unknown_as_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "nvml", Nvml)
    (found,) = gpus.describe()
    assert found["name"] == "NVIDIA H100 80GB HBM3" and found["cuda"] == "13.1"
    assert found["memory_gib"] == 80.0 and found["power_limit_w"] == 700.0
    assert found["nvlink_links"] is None and found["pcie_width"] is None


def test_sampler_reads_and_stops() -> None:
    lib = Nvml()
    with gpus.GpuSampler(0.01, lambda: lib) as sampler:
        deadline = time.monotonic() + 20
        while lib.readings < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sampler.latest == [
            {"index": 0, "power_w": 690.4, "sm_clock_mhz": 1530, "temperature_c": 61,
             "utilisation_percent": None, "memory_used_gib": 70.0}
        ]  # fmt: skip
    stopped = lib.readings
    time.sleep(0.05)
    assert lib.readings == stopped


def test_sampler_without_a_gpu_gives_nothing() -> None:
    with gpus.GpuSampler(0.01, lambda: None) as sampler:
        assert sampler.latest is None


def test_no_driver_and_no_smi_is_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "nvml", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert gpus.describe() == []
