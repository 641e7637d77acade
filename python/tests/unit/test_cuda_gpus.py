"""The GPUs that CUDA will use: by number, UUID and MIG; a driver that fails, hangs, or tells little."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlperf_llama import config
from mlperf_llama.bench import create
from mlperf_llama.engine import derive
from mlperf_llama.engine.preset import GENERIC, choose_preset
from mlperf_llama.errors import MissingError
from mlperf_llama.machine import driver, gpus, nvidia_smi, nvml
from mlperf_llama.machine.driver import Card
from mlperf_llama.machine.gpu_sampler import GpuSampler
from mlperf_llama.records.schema import Gpu, Memory, System

A100 = Gpu(0, "NVIDIA A100-SXM4-80GB", "GPU-a1", 80.0, compute_capability="8.0", source="nvml")
T4 = Gpu(1, "Tesla T4", "GPU-b2", 15.0, compute_capability="7.5", source="nvml")
SLICES = tuple(
    replace(A100, index=2, name="NVIDIA A100-SXM4-80GB MIG 1g.10gb", uuid=uuid, memory_gib=9.5, mig=True)
    for uuid in ("MIG-c1", "MIG-c2")
)
CARDS = [Card("GPU-a1", (A100,)), Card("GPU-b2", (T4,))]
WITH_MIG = [*CARDS, Card("GPU-c3", SLICES)]
GB10 = "0, NVIDIA GB10, GPU-1, [N/A], 580.95.05, [N/A], 3003, [N/A], 1, 1, 12.1"


def used(cards: list[Card], **env: str) -> list[str | None]:
    return [gpu.uuid for gpu in gpus.choose(cards, env).gpus]


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        ("1", ["GPU-b2"]),
        ("1,0", ["GPU-b2", "GPU-a1"]),
        (" 1gpu, 0", ["GPU-b2", "GPU-a1"]),
        ("0,7,1", ["GPU-a1"]),
        ("0,-1,1", ["GPU-a1"]),
        ("1,1", []),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("GPU-b2", ["GPU-b2"]),
        ("GPU-b,GPU-a", ["GPU-b2", "GPU-a1"]),
        ("GPU-", []),
        ("GPU-zz,GPU-a1", []),
        ("GPU-a1,GPU-a1", []),
    ],
)
def test_visible_devices(visible: str, uuids: list[str]) -> None:
    assert used(CARDS, CUDA_VISIBLE_DEVICES=visible) == uuids


@pytest.mark.parametrize(
    ("env", "uuids"),
    [
        ({}, ["MIG-c1"]),
        ({"CUDA_VISIBLE_DEVICES": "0,1"}, ["GPU-a1", "GPU-b2"]),
        ({"CUDA_VISIBLE_DEVICES": "2"}, ["MIG-c1"]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-c2"}, ["MIG-c2"]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-c2,MIG-c1"}, ["MIG-c2"]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-zz"}, []),
    ],
)
def test_an_instance_of_mig_is_used_alone(env: dict[str, str], uuids: list[str]) -> None:
    assert used(WITH_MIG, **env) == uuids


def test_the_older_name_of_an_instance_leaves_open_which() -> None:
    (gpu,) = gpus.choose(WITH_MIG, {"CUDA_VISIBLE_DEVICES": "MIG-GPU-c3/7/0"}).gpus
    assert gpu.uuid is None and gpu.mig and gpu.memory_gib == 9.5


def test_without_settings_all_are_used_in_the_drivers_order() -> None:
    assert gpus.choose(CARDS, {}) == gpus.CudaGpus((A100, T4))


def test_the_choice_is_said() -> None:
    assert gpus.choose(CARDS, {"CUDA_VISIBLE_DEVICES": "1"}).choice == "CUDA_VISIBLE_DEVICES=1: 1 of 2"


@pytest.mark.parametrize("order", ["FASTEST_FIRST", ""])
def test_an_order_that_only_cuda_knows_is_no_claim(order: str) -> None:
    env = {"CUDA_DEVICE_ORDER": order, "CUDA_VISIBLE_DEVICES": "1"}
    (gpu,) = gpus.choose(CARDS, env).gpus
    assert (gpu.name, gpu.uuid, gpu.memory_gib) == (gpus.ONE_OF, None, None)
    assert choose_preset(config.load({}, {}), gpu).name == GENERIC
    alike = [Card(f"GPU-{n}", (replace(A100, index=n, uuid=f"GPU-{n}"),)) for n in range(2)]
    assert used(alike, **env) == ["GPU-1"]
    assert used(CARDS, **{**env, "CUDA_VISIBLE_DEVICES": "GPU-b2"}) == ["GPU-b2"]


def test_a_card_that_fails_counts_where_it_is_chosen() -> None:
    cards = [CARDS[0], Card(failure="GPU 1: NVML: GPU is lost")]
    assert gpus.choose(cards, {}).failure == "GPU 1: NVML: GPU is lost"
    assert gpus.choose(cards, {"CUDA_VISIBLE_DEVICES": "0"}).failure is None


def smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> gpus.CudaGpus:
    """What is found where this is nvidia-smi and NVML cannot be had."""
    (folder / "nvidia-smi").write_text(f"#!/bin/bash\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(nvml, "load", lambda: None)
    monkeypatch.setattr(nvidia_smi, "PCI_DEVICES", folder / "pci")
    return gpus.describe({}, Memory(total_gib=119.7))


def test_a_gpu_that_shares_the_systems_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (gpu,) = smi(tmp_path, monkeypatch, f'echo "{GB10}"').gpus
    assert (gpu.memory_gib, gpu.shared_memory, gpu.compute_capability) == (119.7, True, "12.1")
    engine = derive.settings(derive.card_of(gpu)).engine
    assert engine["gpu_memory_utilization"] == derive.SHARED_SHARE


@pytest.mark.parametrize("capability", ["8.0", "[N/A]", ""])
def test_a_gpu_that_tells_nothing_gets_generic_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str
) -> None:
    row = f"0, GRID X-8Q, [N/A], [N/A], [N/A], [N/A], [N/A], [N/A], [N/A], [N/A], {capability}, [N/A]"
    (gpu,) = smi(tmp_path, monkeypatch, f'echo "{row}"').gpus
    assert gpu.memory_gib is gpu.uuid is gpu.driver is gpu.shared_memory is None
    chosen = choose_preset(config.load({}, {}), gpu)
    assert chosen.name == GENERIC and "gpu_memory_utilization" not in chosen.engine
    assert chosen.engine.get("quantization") == ("int8" if capability == "8.0" else None)


def test_old_run_folders_may_hold_unread_words() -> None:
    assert derive.card_of(Gpu(name="X", compute_capability="[N/A]")).capability is None


@pytest.mark.parametrize("memory_gib", [0.5, 1.0, 2.0, 6.0])
def test_hardly_any_memory_still_gives_settings(memory_gib: float) -> None:
    engine = derive.settings(derive.Card("X", memory_gib, 8.0)).engine
    assert 0.1 <= float(engine["gpu_memory_utilization"]) < 1


def test_instances_of_mig_by_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = "0, NVIDIA A30, GPU-1, 24576, 580.1, 165.00, 1440, 1215, 4, 16, 8.0, Enabled"
    listing = "GPU 0: NVIDIA A30 (UUID: GPU-1)\\n  MIG 1g.6gb      Device  0: (UUID: MIG-1)\\n"
    script = f"case $1 in -L) printf '{listing}' ;; *) echo '{row}' ;; esac"
    (gpu,) = smi(tmp_path, monkeypatch, script).gpus
    assert (gpu.name, gpu.uuid, gpu.memory_gib) == ("NVIDIA A30 MIG 1g.6gb", "MIG-1", None)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "echo Failed to initialize NVML: Driver/library version mismatch; exit 18",
            "version mismatch (code 18)",
        ),
        ("echo 'GPU is lost.  Reboot the system' >&2; exit 15", "GPU is lost.  Reboot the system (code 15)"),
        ("exit 255", "no word (code 255)"),
        ("exec sleep 600", "nvidia-smi has not answered in 0.3 s"),
        ("trap '' TERM; sleep 5 & sleep 5", "nvidia-smi has not answered in 0.3 s"),
    ],
)
def test_a_driver_that_fails_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    monkeypatch.setattr(driver, "LIMIT_S", 0.3)
    started = time.monotonic()
    used = smi(tmp_path, monkeypatch, script)
    assert used.gpus == () and used.failure and words in used.failure and "nvidia-smi" in used.failure
    assert time.monotonic() - started < 4


def test_no_driver_is_a_failure_only_where_the_bus_has_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert smi(tmp_path, monkeypatch, "echo no driver; exit 9") == gpus.CudaGpus()
    device = tmp_path / "pci" / "0000:01:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    (device / "class").write_text("0x030200\n")
    assert smi(tmp_path, monkeypatch, "echo no driver; exit 9").failure == "nvidia-smi: no driver (code 9)"


def test_a_lost_card_keeps_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = smi(tmp_path, monkeypatch, f'echo "{GB10.replace("0,", "1,", 1)}"; echo lost >&2; exit 15')
    assert [gpu.index for gpu in used.gpus] == [1] and used.failure == "nvidia-smi: lost (code 15)"


def test_an_old_driver_that_does_not_know_a_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = "case $1 in *compute_cap*) exit 2 ;; *) echo '0, Tesla T4, GPU-1, 15360, 440.1' ;; esac"
    (gpu,) = smi(tmp_path, monkeypatch, script).gpus
    assert (gpu.name, gpu.memory_gib, gpu.compute_capability) == ("Tesla T4", 15.0, None)


def test_nvml_that_hangs_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "LIMIT_S", 0.1)
    monkeypatch.setattr(nvml, "load", lambda: time.sleep(5))
    assert gpus.describe({}).failure == "NVML has not answered in 0.1 s"


class LittleNvml:
    """Two GPUs of which NVML tells the name and, by UUID, the power; the second is lost in `lost`."""

    NVML_CLOCK_SM = NVML_CLOCK_MEM = NVML_TEMPERATURE_GPU = 0

    def __init__(self, lost: bool = False) -> None:
        self.lost = lost

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if self.lost and index:
            raise RuntimeError("GPU is lost")
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        return {"GPU-a1": 0, "GPU-b2": 1}[uuid]

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "NVIDIA GB10"

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 100_000 + 1000 * handle


def test_nvml_may_tell_the_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "load", LittleNvml)
    used = gpus.describe({}, Memory(total_gib=100.0)).gpus
    assert [(gpu.name, gpu.memory_gib, gpu.shared_memory) for gpu in used] == [
        ("NVIDIA GB10", 100.0, True)
    ] * 2


def test_a_card_that_nvml_lost_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvml, "load", lambda: LittleNvml(lost=True))
    used = gpus.describe({})
    assert len(used.gpus) == 1 and used.failure == "GPU 1: NVML: GPU is lost"


def test_only_the_gpus_in_use_are_read() -> None:
    readings = None
    with GpuSampler([T4], 0.01, lambda: LittleNvml()) as sampler:  # type: ignore[arg-type,return-value]
        deadline = time.monotonic() + 20
        while readings is None and time.monotonic() < deadline:
            readings = sampler.latest
            time.sleep(0.01)
    assert readings and [(r.index, r.power_w) for r in readings] == [(1, 101.0)]


def test_a_gpu_that_is_not_known_is_not_read() -> None:
    lib = SimpleNamespace(nvmlDeviceGetHandleByIndex=lambda index: index)
    assert nvml.handle_of(lib, Gpu(name=gpus.ONE_OF)) is None  # type: ignore[arg-type]
    assert nvml.handle_of(lib, Gpu(mig=True, source="nvml")) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "env", "stops"),
    [
        ({"ENGINE": "vllm"}, {}, True),
        ({"ENGINE": "vllm"}, {"MLPERF_TARGET": "cuda"}, True),
        ({"ENGINE": "vllm"}, {"MLPERF_TARGET": "cpu"}, False),
        ({"ENGINE": "fake"}, {}, False),
    ],
)
def test_a_failing_gpu_ends_the_run_unless_none_is_needed(
    settings: Mapping[str, str], env: Mapping[str, str], stops: bool, caplog: pytest.LogCaptureFixture
) -> None:
    here, asked = System(gpu_failure="nvidia-smi: mismatch (code 18)"), config.load(dict(settings), {})
    if stops:
        with pytest.raises(MissingError, match=r"nvidia-smi: mismatch \(code 18\): reboot"):
            create.check_gpus(asked, env, here)
    else:
        create.check_gpus(asked, env, here)
        assert "nvidia-smi: mismatch (code 18): reboot" in caplog.text
