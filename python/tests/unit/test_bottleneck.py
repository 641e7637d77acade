"""What limited a run, in one sentence."""

from __future__ import annotations

import pytest

from mlperf_llama import rules
from mlperf_llama.records.schema import Performance
from mlperf_llama.report import bottleneck
from mlperf_llama.report.bottleneck import Gpus, Load

HOT = Gpus(690.0, 700.0, 1540.0, 1980.0, 0.99)
COOL = Gpus(420.0, 700.0, 1980.0, 1980.0, 0.99)
KNOWN = Gpus(420.0, 700.0, 1980.0, 1980.0, 0.99, "memory bandwidth")
SILENT = Gpus(0.0, 700.0, 0.0, 1980.0, 0.99)
STARVED = Gpus(300.0, 700.0, 1980.0, 1980.0, 0.62)
FULL = Load(running=256, waiting=12.0, seats=256)
FREE = Load(running=90, waiting=0.4, seats=256)


def performance(ttft_ms: float | None = None, tpot_ms: float | None = None) -> Performance:
    return Performance(50.0, 6400.0, 600.0, 40104, "VALID", ttft_ms, tpot_ms)


@pytest.mark.parametrize(
    ("scenario", "measured", "gpus", "load", "words"),
    [
        (rules.OFFLINE, performance(), HOT, FREE, "power: clock 1 540 of 1 980 MHz at 690 of 700 W"),
        (rules.OFFLINE, performance(), STARVED, FREE, "launches and scheduling: the GPU was busy 62%"),
        (rules.OFFLINE, performance(), COOL, FREE, "the GPU was busy 99% of the time, at 1 980 of"),
        (rules.OFFLINE, performance(), KNOWN, FREE, "memory bandwidth, by the roofline: the GPU"),
        (rules.OFFLINE, performance(), Gpus(), FREE, "nothing that was recorded: the GPU's readings are"),
        (rules.OFFLINE, performance(), SILENT, FREE, "the GPU was busy 99% of the time."),
        (rules.SERVER, performance(1911, 25), COOL, FREE, "limited Server: TTFT, p99 1 911 of 2000 ms."),
        (rules.SERVER, performance(900, 95.5), HOT, FREE, "TPOT, p99 95.5 of 100 ms; behind it power: clock"),
        (rules.SERVER, performance(2829, 26), COOL, FULL, "all 256 sequences (MAX_NUM_SEQS) in use while 12"),
        (rules.SERVER, performance(700, 40), COOL, FREE, "the rate of the queries; neither TTFT nor TPOT"),
        (rules.INTERACTIVE, performance(450, 10), COOL, FREE, "TTFT, p99 450 of 500 ms."),
        (rules.SINGLE_STREAM, performance(20, 5), COOL, FREE, "one request at a time"),
    ],
)  # fmt: skip
def test_one_sentence(scenario: str, measured: Performance, gpus: Gpus, load: Load, words: str) -> None:
    said = bottleneck.sentence(scenario, measured, gpus, load, on_gpu=True)
    assert said.startswith(f"What limited {scenario}: ") and words in said and said.endswith(".")
    assert "\n" not in said


def test_without_a_gpu_it_is_the_cpu() -> None:
    said = bottleneck.sentence(rules.OFFLINE, performance(), Gpus(), Load(), on_gpu=False)
    assert said == "What limited Offline: the CPU, on which the engine ran."
