"""The table of GPUs: which product names are a whole card of it, and which are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlperf_llama.engine import preset
from mlperf_llama.machine import gpu_table
from mlperf_llama.machine.gpu_table import find_gpu
from mlperf_llama.records.schema import Gpu


@pytest.mark.parametrize(
    ("driver_name", "card"),
    [
        ("NVIDIA A30", "A30"), ("NVIDIA A10", "A10"), ("NVIDIA L4", "L4"), ("NVIDIA L40S", "L40S"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB SXM"), ("NVIDIA A100 80GB PCIe", "A100 80GB PCIe"),
        ("NVIDIA A100-PCIE-40GB", "A100 40GB"), ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H100 PCIe", "H100 PCIe"), ("NVIDIA H100 NVL", "H100 NVL"), ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA H200 NVL", "H200 NVL"), ("NVIDIA B200", "B200"), ("NVIDIA GeForce RTX 4090", "RTX 4090"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 Blackwell Server"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX PRO 6000 Blackwell"),
    ],
)  # fmt: skip
def test_driver_names(driver_name: str, card: str) -> None:
    spec = find_gpu(Gpu(name=driver_name))
    assert spec is not None and spec.name == card


@pytest.mark.parametrize(
    "name",
    [
        "Tesla T4", "NVIDIA RTX A1000", "NVIDIA GB10", "AMD Instinct MI300A", "", "NVIDIA L40",
        "NVIDIA A10G",
        "NVIDIA A2", "NVIDIA A800-SXM4-80GB", "NVIDIA A100-SXM-64GB", "NVIDIA GeForce RTX 4090 D",
        "NVIDIA RTX 4000 Ada Generation",
    ],
)  # fmt: skip
def test_other_cards_are_not_guessed(name: str) -> None:
    assert find_gpu(Gpu(name=name)) is None


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA H100 80GB HBM3 MIG 7g.80gb",
        "NVIDIA H100 80GB HBM3 1g.10gb",
        "GRID A100-10C", "NVIDIA A10-24Q", "NVIDIA L40S-48C", "NVIDIA L4-2B",
    ],
)  # fmt: skip
def test_a_laptop_or_a_part_of_a_card_is_never_the_card(name: str) -> None:
    assert find_gpu(Gpu(name=name)) is None
    assert preset.detect(Gpu(name=name)) == preset.GENERIC


def test_a_card_under_mig_or_with_too_little_memory_is_not_the_card() -> None:
    whole = Gpu(name="NVIDIA H100 80GB HBM3", memory_gib=79.65, mig=False)
    assert find_gpu(whole)
    assert find_gpu(replace(whole, mig=True)) is None
    assert find_gpu(replace(whole, memory_gib=39.5)) is None


@pytest.mark.parametrize(
    ("name", "mib"),
    [
        ("NVIDIA A10", 23028), ("NVIDIA L4", 23034), ("NVIDIA L40S", 46068), ("NVIDIA H200", 143771),
        ("NVIDIA B200", 183359), ("NVIDIA GeForce RTX 4090", 23028), ("NVIDIA H100 NVL", 95830),
    ],
)  # fmt: skip
def test_driver_and_ecc_may_take_their_part(name: str, mib: int) -> None:
    assert find_gpu(Gpu(name=name, memory_gib=mib / 1024))


def test_the_table_and_the_presets_agree() -> None:
    specs = gpu_table.specs()
    assert {spec.preset for spec in specs if spec.preset} == set(preset.names()) - {"cpu"}
    for spec in specs:
        assert ("fp8" in spec.rates) is (spec.capability is None or spec.capability >= 8.9), spec.name
        if spec.preset and "fp8" not in spec.rates:
            assert preset.load_preset(spec.preset).engine["quantization"] == "int8"


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("NVIDIA GeForce RTX 4090", True),
        ("NVIDIA RTX A6000", True),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", False),
        ("NVIDIA H100 80GB HBM3", False),
    ],
)
def test_which_cards_may_draw_a_desktop(name: str, may: bool) -> None:
    assert gpu_table.may_draw_desktop(name) is may
