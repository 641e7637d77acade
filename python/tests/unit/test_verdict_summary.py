"""The summary against the detail log; lines as LoadGen 6.0.17 writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlperf_llama.loadgen.logs import Detail
from mlperf_llama.verdict.summary import contradictions

SUMMARY = """SUT name : PySUT
Scenario : Server
Mode     : PerformanceOnly
Completed samples per second    : 996.53
Completed tokens per second: 128540.95
Result is : VALID
  Min duration satisfied : Yes
TTFT Early Stopping Result:
 * Run successful.
Scheduled samples per second : 999.47
99.00 percentile latency (ns)   : 6192651741
99.00 percentile first token latency (ns)   : 1749395239
99.00 percentile time to output token (ns)   : 42112172
target_qps : 1000
min_duration (ms): 600000
qsl_rng_seed : 1780908523862526354
"""
DETAIL: dict[str, object] = {
    "effective_scenario": "Server",
    "effective_test_mode": "PerformanceOnly",
    "result_completed_samples_per_sec": 996.533,
    # Six significant digits.
    "result_completed_tokens_per_second": 128541,
    "result_validity": "VALID",
    "result_99.00_percentile_latency_ns": 6192651741,
    "result_first_token_99.00_percentile_latency_ns": 1749395239,
    "result_time_per_output_token_99.00_percentile_ns": 42112172,
    "effective_target_qps": 1000,
    "effective_min_duration_ms": 600000,
    "effective_qsl_rng_seed": 1780908523862526354,
}


def faults_of(text: str, **values: object) -> list[str]:
    return contradictions(text, Detail(Path("x"), DETAIL | values, (), ()))


def test_what_loadgen_wrote_agrees() -> None:
    assert faults_of(SUMMARY) == []
    assert faults_of("") == faults_of("No errors encountered during test.\n") == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("result_validity", "INVALID", "Result is: VALID"),
        ("effective_scenario", "Offline", "Scenario: Server"),
        ("result_completed_samples_per_sec", 1996.53, "Completed samples per second: 996.53"),
        ("result_completed_tokens_per_second", 128550, "Completed tokens per second: 128540.95"),
        ("result_first_token_99.00_percentile_latency_ns", 749395239, "first token latency (ns): 1749395239"),
        ("effective_min_duration_ms", 60000, "min_duration (ms): 600000"),
        ("effective_qsl_rng_seed", 1780908523862526355, "qsl_rng_seed: 1780908523862526354"),
    ],
)
def test_each_contradiction_is_named(key: str, value: object, words: str) -> None:
    (fault,) = faults_of(SUMMARY, **{key: value})
    assert words in fault and f"{key} {value}" in fault
