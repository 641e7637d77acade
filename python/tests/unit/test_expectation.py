"""What a run is expected to reach, and by how much it was off."""

from __future__ import annotations

import pytest
from loadgen_support import plan_of

from mlperf_llama import rules
from mlperf_llama.bench import expectation
from mlperf_llama.bench.warm_up import Speed
from mlperf_llama.engine.preset import load_preset
from mlperf_llama.engine.tuned import NONE, Tuned
from mlperf_llama.records.schema import Expectation, Gpu, Performance

SPEED = Speed(samples_per_s=3.5, latency_ms=900.0)
L40S = Gpu(name="NVIDIA L40S", memory_gib=44.99)


def expected(
    scenario: str, tuned: Tuned = NONE, gpu: Gpu | None = None, engines: int = 1, **speeds: float
) -> str:
    record = expectation.expect(plan_of(scenario, **speeds), tuned, SPEED, load_preset("l40s"), gpu, engines)
    assert record is not None
    return expectation.before(record)


def test_offline_is_expected_as_tuned_else_as_known_cards_else_as_warmed_up() -> None:
    tuned = Tuned(scenarios={rules.OFFLINE: {"target_qps": 13.2, "duration_s": 600.0}})
    assert expected(rules.OFFLINE, tuned) == "expected: 12 samples/s (tuned)"
    assert expected(rules.OFFLINE) == "expected: 3.5 samples/s (the warm-up)"
    one, two = (expected(rules.OFFLINE, gpu=L40S, engines=n) for n in (1, 2))
    assert one.startswith("expected: 11.") and "of the card's limit" in one
    assert two.startswith(("expected: 22.", "expected: 23."))


def test_server_is_expected_at_the_rate_that_is_asked_for() -> None:
    tuned = Tuned(scenarios={rules.SERVER: {"target_qps": 15.0, "ttft_p99_ms": 1710.0, "tpot_p99_ms": 61.2}})
    told = expected(rules.SERVER, tuned, target_qps=15.0)
    assert told == "expected: 15 samples/s, TTFT p99 1,710 ms, TPOT p99 61.2 ms (tuned)"
    assert (
        expected(rules.SERVER, tuned, target_qps=12.0)
        == "expected: 12 samples/s (the rate that is asked for)"
    )


def test_single_stream_is_expected_at_its_latency() -> None:
    assert expected(rules.SINGLE_STREAM, expected_latency_ms=800.0).startswith("expected: 1.25 samples/s")


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        (12.2, "measured 12.2 samples/s, 4.7% below the expected 12.8 (tuned)"),
        (14.1, "measured 14.1 samples/s, 10% above the expected 12.8 (tuned)"),
        (64.0, "measured 64 samples/s, 5 times the expected 12.8 (tuned)"),
        (12.81, "measured 12.81 samples/s, as expected (12.8) (tuned)"),
    ],
)
def test_a_run_says_by_how_much_it_was_off(measured: float, told: str) -> None:
    record = Performance(measured, 1.0, 600.0, 1, "VALID", expected=Expectation(12.8, "tuned"))
    assert expectation.after(record) == told


def test_latencies_are_compared_where_they_were_expected() -> None:
    expected = Expectation(15.0, "tuned", 1700.0, 60.0)
    record = Performance(
        15.0, 1.0, 600.0, 1, "VALID", ttft_p99_ms=2040.0, tpot_p99_ms=57.0, expected=expected
    )
    assert expectation.after(record) == (
        "measured 15 samples/s, as expected (15); 2,040 ms TTFT p99, 20% above the expected 1,700; "
        "57 ms TPOT p99, 5% below the expected 60 (tuned)"
    )
    assert expectation.after(Performance(15.0, 1.0, 600.0, 1, "VALID")) == ""
