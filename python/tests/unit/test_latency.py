"""Latencies of a recorded run's requests beside LoadGen's own figures of the same run, and made-up ones."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mlperf_llama import rules
from mlperf_llama.loadgen import logs
from mlperf_llama.records import requests
from mlperf_llama.records.requests import Requests
from mlperf_llama.report import latency
from mlperf_llama.report.latency import TPOT, TTFT

RECORDED = Path(__file__).parents[1] / "recorded/fake-server"
# LoadGen's own clock stands on the other side of a socket.
CLOCKS_MS = {TTFT: 10.0, TPOT: 0.2}


def made_up(count: int, ttft_s: float, tpot_s: float, tokens: int = 11) -> Requests:
    """Requests a tenth of a second apart, the n-th with n times these latencies over `count`."""
    n = np.arange(1, count + 1) / count
    arrival = np.arange(count) / 10
    return Requests(
        sample=np.arange(count, dtype=np.int32),
        arrival_s=arrival,
        first_token_s=arrival + n * ttft_s,
        end_s=arrival + n * ttft_s + n * tpot_s * (tokens - 1),
        prompt_tokens=np.full(count, 900, np.int32),
        answer_tokens=np.full(count, tokens, np.int32),
    )


@pytest.mark.parametrize("name", [TTFT, TPOT])
@pytest.mark.parametrize("percent", [50.0, 90.0, 95.0, 99.0, 99.9])
def test_percentiles_are_loadgens_within_one_sample(name: str, percent: float) -> None:
    recorded = latency.of(requests.read(requests.path_in(RECORDED / "Server")))
    detail = logs.read_detail(RECORDED / "Server/performance/run_1")
    pattern = {
        TTFT: "result_first_token_{:.2f}_percentile_latency_ns",
        TPOT: "result_time_per_output_token_{:.2f}_percentile_ns",
    }[name]
    logged_ms = detail.need_number(pattern.format(percent)) / 1e6
    ordered = np.sort(recorded.kinds[name])
    place = int(len(ordered) * percent / 100)
    assert latency.percentile(recorded.kinds[name], percent) == ordered[place]
    low, high = ordered[max(0, place - 1)], ordered[min(len(ordered) - 1, place + 1)]
    assert low - CLOCKS_MS[name] <= logged_ms <= high + CLOCKS_MS[name]


def test_the_recorded_run_is_whole_and_its_goodput_is_that_of_its_log() -> None:
    recorded = latency.of(requests.read(requests.path_in(RECORDED / "Server")))
    figures = logs.performance(RECORDED / "Server/performance/run_1", rules.SERVER)
    assert len(recorded.whole_ms) == figures.samples_processed and recorded.unanswered == 0
    assert figures.ttft_p99_ms is not None and figures.tpot_p99_ms is not None
    # With LoadGen's own p99 as the only limit, 99% keep it, give or take a sample and the clocks.
    count = len(recorded.whole_ms)
    for limits in ((figures.ttft_p99_ms, 1e9), (1e9, figures.tpot_p99_ms)):
        share = latency.within(recorded, limits)
        assert share is not None and share == pytest.approx(0.99, abs=3 / count)


def test_the_distribution_is_that_of_every_request() -> None:
    values = np.random.default_rng(7).exponential(100.0, 40_104)
    points = latency.distribution(values)
    assert len(points) < 250 and points == sorted(points)
    for value, percent in points:
        assert percent == pytest.approx(100 * float((values <= value).mean()), abs=1e-9)
    assert points[-1] == (values.max(), 100.0)
    p99 = latency.percentile(values, 99)
    assert min(abs(value - p99) for value, _ in points) < 2, "finer where the limits bind"


def test_goodput_counts_what_kept_both_limits() -> None:
    half = latency.of(made_up(100, ttft_s=2.0, tpot_s=0.1))
    assert latency.within(half, (1000.0, 101.0)) == 0.5
    assert latency.within(half, (2001.0, 25.0)) == 0.25
    assert latency.within(half, (2001.0, 101.0)) == 1.0


def test_a_request_without_an_answer_keeps_no_limit() -> None:
    made = made_up(100, ttft_s=1.0, tpot_s=0.01)
    end_s = made.end_s.copy()
    end_s[:10] = math.nan
    cut = latency.of(Requests(**{**vars(made), "end_s": end_s}))
    assert cut.unanswered == 10 and len(cut.whole_ms) == 90
    assert latency.within(cut, (2000.0, 100.0)) == 0.9


def test_offline_has_no_first_tokens_and_no_goodput() -> None:
    made = made_up(50, 1.0, 0.01)
    offline = latency.of(Requests(**{**vars(made), "first_token_s": np.full(50, math.nan)}))
    assert list(offline.kinds) == [latency.WHOLE] and latency.within(offline, (1.0, 1.0)) is None


def test_an_answer_of_one_token_has_no_time_per_token() -> None:
    single = latency.of(made_up(3, 1.0, 0.01, tokens=1))
    assert single.tpot_ms is not None and single.tpot_ms.tolist() == [0, 0, 0]


def test_the_worst_are_nearest_to_their_limits() -> None:
    latencies = latency.of(made_up(20, ttft_s=1.0, tpot_s=0.05))
    assert latency.worst(latencies, (2000.0, 100.0), 3) == [19, 18, 17]
    assert latency.worst(latencies, None, 2) == [19, 18]
