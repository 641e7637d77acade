"""The expected speed: shares of the limit that known runs reached, with their sources."""

from __future__ import annotations

import pytest

from mlperf_llama.machine import expected, gpu_table, roofline
from mlperf_llama.machine.gpu_table import GpuSpec
from mlperf_llama.records.schema import Gpu


def card(name: str) -> GpuSpec:
    return next(spec for spec in gpu_table.specs() if spec.name == name)


def test_the_shares_of_the_known_runs() -> None:
    """12.83 of 30.93, 53.7 of 96.38, 3.40 of 5.93 samples/s with vLLM's kernels; 65.8 of 96.38 with ours."""
    shares = {(run.card, run.kernels): run.share for run in expected.known_runs()}
    assert shares["L40S", "vllm"] == pytest.approx(0.415, abs=0.001)
    assert shares["H100 SXM", "vllm"] == pytest.approx(0.557, abs=0.001)
    assert shares["A30", "vllm"] == pytest.approx(0.574, abs=0.001)
    assert shares["H100 SXM", "hopper"] == pytest.approx(0.683, abs=0.001)
    assert all(run.source for run in expected.known_runs())


def test_an_a30_in_int8_is_expected_to_reach_half_of_its_limit() -> None:
    speed = expected.offline(card("A30"), "int8", "vllm")
    assert speed is not None and not speed.measured
    assert (round(speed.low, 1), round(speed.high, 1), round(speed.limit, 1)) == (5.5, 7.5, 13.2)
    assert speed.words == "5.5 to 7.5 samples/s" and speed.middle == pytest.approx(6.5, abs=0.01)
    assert "0.41 to 0.57" in speed.source and "A30, L40S, H100 SXM" in speed.source


@pytest.mark.parametrize(
    ("name", "precision", "kernels", "rate"),
    [
        ("A30", "fp16", "vllm", 3.40), ("H100 SXM", "fp8-kv8", "hopper", 65.8),
        ("L40S", "fp8-kv8", "vllm", 12.83),
    ],
)  # fmt: skip
def test_a_measured_card_is_expected_to_do_it_again(
    name: str, precision: str, kernels: str, rate: float
) -> None:
    speed = expected.offline(card(name), precision, kernels)
    assert speed is not None and speed.measured and speed.low == speed.middle == speed.high == rate
    assert speed.source.startswith("measured on this card")


def test_every_card_has_an_expected_speed_below_its_limit() -> None:
    for spec in gpu_table.specs():
        precision = next(p for p in ("fp8-kv8", "int8") if roofline.PRECISIONS[p].compute in spec.rates)
        speed = expected.offline(spec, precision, "vllm")
        assert speed is not None and 0 < speed.low <= speed.middle <= speed.high < speed.limit, spec.name


def test_what_a_card_cannot_do_is_not_expected_of_it() -> None:
    assert expected.offline(card("A30"), "fp8", "vllm") is None
    assert expected.single_stream_ms(card("A30"), "fp8", "vllm") is None


def test_an_answer_alone_takes_at_least_the_time_of_reading_the_weights() -> None:
    latency_ms = expected.single_stream_ms(card("A30"), "int8", "vllm")
    # 8.03 GB of weights, 128 times, over 933 GB/s: 1.10 s; the middle share doubles it.
    assert latency_ms is not None and 2 * 1100 < latency_ms < 2.4 * 1100


def test_the_worker_extension_brings_the_kernels_for_hopper() -> None:
    assert expected.kernels_of({"worker_extension_cls": "x.Extension"}) == "hopper"
    assert expected.kernels_of({"worker_extension_cls": ""}) == expected.kernels_of({}) == "vllm"


@pytest.mark.parametrize(
    ("driver_name", "name"),
    [
        ("NVIDIA B300 SXM6 AC", "B300"), ("NVIDIA GB200", "GB200"), ("NVIDIA GB300", "GB300"),
        ("NVIDIA RTX PRO 4500 Blackwell", "RTX PRO 4500 Blackwell"),
        ("NVIDIA RTX PRO 4500 Blackwell Server Edition", "RTX PRO 4500 Blackwell Server"),
        ("NVIDIA GeForce RTX 5090", "RTX 5090"), ("NVIDIA A40", "A40"), ("NVIDIA L20", "L20"),
        ("NVIDIA H20", "H20"), ("AMD Instinct MI300X", "MI300X"), ("AMD Instinct MI355X", "MI355X"),
    ],
)  # fmt: skip
def test_cards_that_stand_in_the_table_for_plans(driver_name: str, name: str) -> None:
    spec = gpu_table.find_gpu(Gpu(name=driver_name))
    assert spec is not None and spec.name == name
    assert (spec.maker == "AMD") == (spec.capability is None) == driver_name.startswith("AMD")


@pytest.mark.parametrize(
    "name",
    ["NVIDIA GeForce RTX 5090 D", "NVIDIA GeForce RTX 5090 Laptop GPU", "NVIDIA H20-3e", "NVIDIA A40-48Q"],
)
def test_their_smaller_relatives_do_not(name: str) -> None:
    assert gpu_table.find_gpu(Gpu(name=name)) is None
