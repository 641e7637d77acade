"""Energy of the GPUs: made-up readings and a made-up NVML, whose truth is known."""

from __future__ import annotations

import time
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest

from mlperf_llama.machine import energy
from mlperf_llama.machine.energy import PowerReading
from mlperf_llama.machine.gpu_sampler import GpuSampler
from mlperf_llama.records.schema import Gpu


def ramp(at_s: float) -> float:
    """Watts of a card that warms up: 100 W, and 10 W more every second."""
    return 100.0 + 10.0 * at_s


def ramp_energy(at_s: float) -> float:
    return 5000.0 + 100.0 * at_s + 5.0 * at_s**2


def readings(counters: bool, interval_s: float = 1.0) -> list[PowerReading]:
    """30 s of two cards: one warms up, one draws 300 W throughout."""
    times = [n * interval_s for n in range(int(30 / interval_s) + 1)]
    joules = [(ramp_energy(t), 300.0 * t) if counters else (None, None) for t in times]
    return [PowerReading(t, (ramp(t), 300.0), j) for t, j in zip(times, joules, strict=True)]


@pytest.mark.parametrize(("counters", "method"), [(True, energy.COUNTER), (False, energy.POWER)])
def test_energy_is_that_of_the_timed_part_alone(counters: bool, method: str) -> None:
    measured = energy.between(readings(counters), 5.5, 25.25)
    assert measured is not None and measured.method == method
    truth = ramp_energy(25.25) - ramp_energy(5.5) + 300 * (25.25 - 5.5)
    # A straight line between the counter's readings is off by less than one joule in 10,000.
    assert measured.joules == pytest.approx(truth, rel=2e-4)
    assert measured.seconds == 19.75 and measured.gpus == 2 and measured.interval_s == 1.0
    assert measured.mean_w == pytest.approx(truth / 19.75, rel=2e-4)
    assert measured.peak_w == ramp(25) + 300


def test_the_counter_sees_what_no_reading_of_power_saw() -> None:
    """A card that draws 500 W between the readings and 100 W at each of them."""
    spiky = [PowerReading(float(t), (100.0,), (500.0 * t,)) for t in range(11)]
    measured = energy.between(spiky, 0, 10)
    assert measured is not None and (measured.joules, measured.mean_w, measured.peak_w) == (5000, 500, 100)


def test_one_card_without_a_counter_makes_all_be_integrated() -> None:
    mixed = [replace(r, energy_j=(r.energy_j[0], None)) for r in readings(counters=True)]
    measured = energy.between(mixed, 5, 25)
    assert measured is not None and measured.method == energy.POWER


def test_a_counter_that_ran_backwards_is_not_believed() -> None:
    reset = [replace(r, energy_j=(r.at_s % 15, r.at_s)) for r in readings(counters=True)]
    measured = energy.between(reset, 5, 25)
    assert measured is not None and measured.method == energy.POWER
    before = energy.between(reset, 1, 14)
    assert before is not None and before.method == energy.COUNTER


def test_what_was_not_read_is_not_guessed() -> None:
    known = readings(counters=False)
    assert energy.between(known, 5, 31) is None and energy.between(known, -1, 20) is None
    assert energy.between([], 0, 1) is None and energy.between(known, 7, 7) is None
    dark = [replace(r, power_w=(r.power_w[0], None if r.at_s == 12 else 300.0)) for r in known]
    assert energy.between(dark, 5, 25) is None
    assert energy.between(dark, 13, 25) is not None


class Nvml:
    """Two cards of 250 and 350 W by the clock; `counters`: whether they count joules. `lost`: the second
    answers nothing."""

    NVML_CLOCK_SM = NVML_TEMPERATURE_GPU = 0

    def __init__(self, counters: bool = True, lost: bool = False) -> None:
        self._counters, self._lost = counters, lost

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if self._lost and index:
            raise RuntimeError("GPU is lost")
        return index

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return 250_000 + 100_000 * handle

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if not self._counters:
            raise RuntimeError("not supported")
        return int(1000 * (250 + 100 * handle) * time.monotonic())

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=0)


CARDS = [Gpu(index=0, source="nvml"), Gpu(index=1, source="nvml")]


@pytest.mark.parametrize(("counters", "method"), [(True, energy.COUNTER), (False, energy.POWER)])
def test_a_made_up_nvml_whose_truth_is_known(counters: bool, method: str) -> None:
    lib = cast(ModuleType, Nvml(counters))
    with GpuSampler(CARDS, 0.01, lambda: lib) as sampler:
        while sampler.latest is None:
            time.sleep(0.001)
        begin_s = time.monotonic()
        time.sleep(0.05)
        end_s = time.monotonic()
        measured = sampler.energy(begin_s, end_s)
    assert measured is not None and measured.method == method and measured.gpus == 2
    # The counter is read a little after the clock; a loaded machine makes that more.
    assert measured.joules == pytest.approx(600 * (end_s - begin_s), rel=0.2 if counters else 1e-3)
    assert measured.peak_w == 600


def test_a_card_that_is_lost_leaves_the_energy_unmeasured() -> None:
    lib = cast(ModuleType, Nvml(lost=True))
    with GpuSampler(CARDS, 0.01, lambda: lib) as sampler:
        while sampler.latest is None:
            time.sleep(0.001)
        begin_s = time.monotonic()
        assert sampler.energy(begin_s, begin_s + 0.01) is None


def test_without_a_gpu_there_is_no_energy() -> None:
    with GpuSampler([], 0.01) as sampler:
        assert sampler.energy(1.0, 2.0) is None
