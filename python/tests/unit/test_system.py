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

from mlperf_llama.machine import gpus, nvidia_smi, nvml, system
from mlperf_llama.machine.gpu_sampler import GpuSampler
from mlperf_llama.records import codec
from mlperf_llama.records.schema import Gpu, GpuReading, System

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
SMI = """0, NVIDIA H100 80GB HBM3, GPU-1, 81559, 580.82.07, 700.00, 1980, 2619, 5, 16, 9.0, Disabled
1, NVIDIA A30, GPU-2, 24576, 570.1, [N/A], 1440, 1215, 4, 16, 8.0, [N/A]
2, NVIDIA A100-SXM4-40GB, GPU-3, 40960, 580.82.07, 400.00, 1410, 1215, 4, 16, 8.0, Enabled
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
    cpu = system.parse_cpuinfo(CPUINFO)
    assert (cpu.sockets, cpu.cores, cpu.threads) == (2, 2, 3)
    assert cpu.model == "Intel(R) Xeon(R) Platinum 8480+"
    assert cpu.features == ("avx2", "avx512f", "amx_bf16")


def test_cpuinfo_of_an_arm_machine() -> None:
    cpu = system.parse_cpuinfo("processor\t: 0\nFeatures\t: fp asimd bf16\nCPU part\t: 0xd4f\n")
    assert cpu.threads == 1 and cpu.features == ("asimd", "bf16") and cpu.sockets is None


def test_describe_holds_everything_and_is_plain_json() -> None:
    here = system.describe({})
    plain = json.loads(json.dumps(codec.to_json(here)))
    assert codec.from_json(System, plain) == here
    assert plain["cpu"]["usable_threads"] >= 1 and plain["memory"]["total_gib"] > 0
    assert plain["python"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert isinstance(plain["gpus"], list) and plain["packages"].get("numpy")


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
    monkeypatch.setattr(system, "__file__", "/app/python/mlperf_llama/machine/system.py")
    assert system.source({"MLPERF_GIT_COMMIT": "abc123"}) == {
        "commit": "abc123",
        "dirty": None,
        "from": "image",
    }
    assert system.source({})["commit"] is None


def test_code_outside_of_an_image_has_no_commit_by_a_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "__file__", str(tmp_path / "python" / "system.py"))
    assert system.source({"MLPERF_GIT_COMMIT": "0" * 40}) == {"commit": None, "dirty": None, "from": None}


def test_a_copy_in_another_repository_has_not_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(tmp_path)
    monkeypatch.setattr(system, "__file__", str(tmp_path / "copy" / "python" / "system.py"))
    assert system.source({})["commit"] is None


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def committed(folder: Path) -> Path:
    """A repository with one file, python/system.py."""
    file = folder / "python" / "system.py"
    file.parent.mkdir(parents=True)
    file.write_text("one")
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return file


def test_a_git_repository_names_its_commit_and_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = committed(tmp_path)
    monkeypatch.setattr(system, "__file__", str(file))
    clean = system.source({"MLPERF_GIT_COMMIT": "stale"})
    assert len(clean["commit"]) == 40 and clean["dirty"] is False and clean["from"] == "git"
    file.write_text("two")
    assert system.source({})["dirty"] is True


HIDDEN = {
    "told to pass over it": lambda f: (
        f.write_text("two"),
        git(f.parent, "update-index", "--assume-unchanged", f.name),
    ),
    "told to skip it": lambda f: (
        f.write_text("two"),
        git(f.parent, "update-index", "--skip-worktree", f.name),
    ),
    "a new module before others": lambda f: f.with_name("psutil.py").write_text("x"),
    "a new module that is ignored": lambda f: (
        (f.parents[1] / ".git/info").mkdir(exist_ok=True),
        (f.parents[1] / ".git/info/exclude").write_text("psutil.py\n"),
        f.with_name("psutil.py").write_text("x"),
    ),
    "another work tree": lambda f: (
        f.write_text("two"),
        committed(f.parents[2] / "other"),
        git(f.parent, "config", "core.worktree", str(f.parents[2] / "other")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", HIDDEN)
def test_a_change_that_git_is_told_to_hide(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = committed(tmp_path / "checkout")
    monkeypatch.setattr(system, "__file__", str(file))
    HIDDEN[what](file)
    assert system.source({})["dirty"] is True


def test_another_repository_of_the_caller_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = committed(tmp_path / "checkout")
    committed(tmp_path / "other")
    monkeypatch.setattr(system, "__file__", str(file))
    file.write_text("two")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))
    assert system.source({})["dirty"] is True


def test_what_python_makes_and_what_no_run_reads_is_no_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = committed(tmp_path)
    monkeypatch.setattr(system, "__file__", str(file))
    for name in ("python/__pycache__/system.pyc", "python/tests/new.py", "system.toml", "python/.swap"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert system.source({})["dirty"] is False


def test_nvidia_smi_rows() -> None:
    first, second, third = nvidia_smi.parse(SMI)
    assert first.name == "NVIDIA H100 80GB HBM3" and first.memory_gib == 79.65
    assert first.power_limit_w == 700.0 and second.power_limit_w is None
    assert (first.max_sm_clock_mhz, first.pcie_generation, second.index) == (1980, 5, 1)
    assert (first.mig, second.mig, third.mig) == (False, None, True)
    assert gpus.summary([first, first, second]) == "2 x NVIDIA H100 80GB HBM3, 1 x NVIDIA A30"


def test_nvml_description_leaves_unknown_as_null(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "load", Nvml)
    (gpu,) = gpus.describe({}).gpus
    assert gpu.name == "NVIDIA H100 80GB HBM3" and gpu.cuda == "13.1"
    assert gpu.memory_gib == 80.0 and gpu.power_limit_w == 700.0
    assert gpu.nvlink_links is None and gpu.pcie_width is None and gpu.uuid is None and gpu.mig is None


class MigNvml(Nvml):
    """The H100 with two MIG instances in seven slots."""

    def nvmlDeviceGetMigMode(self, handle: object) -> list[int]:
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: object) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: object, index: int) -> str:
        if index > 1:
            raise RuntimeError("not found")
        return f"instance {index}"

    def nvmlDeviceGetName(self, handle: object) -> bytes:
        return (
            b"NVIDIA H100 80GB HBM3 MIG 1g.10gb" if isinstance(handle, str) else super().nvmlDeviceGetName(0)
        )

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> Any:
        return SimpleNamespace(total=10 * 1024**3, used=0)


def test_mig_instances_are_listed_and_not_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "load", MigNvml)
    (card,) = nvml.cards() or []
    assert gpus.summary(card.devices) == "2 x NVIDIA H100 80GB HBM3 MIG 1g.10gb"
    assert all(gpu.mig and gpu.memory_gib == 10.0 and gpu.index == 0 for gpu in card.devices)


def test_a_card_under_mig_without_instances_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MigNvml, "nvmlDeviceGetMaxMigDeviceCount", lambda *_: 0)
    monkeypatch.setattr(nvml, "load", MigNvml)
    used = gpus.describe({})
    assert used.gpus == () and used.failure
    assert "NVIDIA H100 80GB HBM3: MIG is on and has no instance" in used.failure


def test_sampler_reads_and_stops() -> None:
    lib = Nvml()
    with GpuSampler([Gpu(source="nvml")], 0.01, lambda: lib) as sampler:
        deadline = time.monotonic() + 20
        while lib.readings < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert sampler.latest == [
            GpuReading(0, power_w=690.4, sm_clock_mhz=1530, temperature_c=61, memory_used_gib=70.0)
        ]
    stopped = lib.readings
    time.sleep(0.05)
    assert lib.readings == stopped


def test_sampler_without_a_gpu_gives_nothing() -> None:
    for known in ([], [Gpu(source="nvml")]):
        with GpuSampler(known, 0.01, lambda: None) as sampler:
            assert sampler.latest is None


def test_no_driver_and_no_smi_is_an_empty_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "load", lambda: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    assert gpus.describe({}) == gpus.CudaGpus()
