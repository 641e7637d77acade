"""What is told of a run while it goes on: requests, latencies, the time it still takes."""

from __future__ import annotations

import time

import numpy as np
import pytest
from loadgen_support import plan_of

from mlperf_llama import rules
from mlperf_llama.loadgen.sofar import Percentiles, SoFar, eta_s
from mlperf_llama.loadgen.timeline import Timeline


def test_percentiles_are_within_their_promise() -> None:
    seconds = np.random.default_rng(1).gamma(3.0, 0.1, 20_000)
    percentiles = Percentiles()
    for part in np.array_split(seconds, 7):
        percentiles.add(part)
    for share in (0.5, 0.9, 0.99):
        assert percentiles.ms(share) == pytest.approx(1000 * np.quantile(seconds, share), rel=0.004)
    assert Percentiles().ms(0.99) is None


def test_times_beyond_the_scale_count_in_its_ends() -> None:
    percentiles = Percentiles()
    percentiles.add(np.array([0.0, 1e9]))
    low, high = percentiles.ms(0.5), percentiles.ms(1.0)
    assert low is not None and high is not None and low < 0.02 and high > 1e7


def test_each_request_is_counted_once_however_it_is_looked_at() -> None:
    """Against the truth worked out from all times at once, at every look."""
    rng = np.random.default_rng(2)
    count = 300
    arrival = np.sort(rng.uniform(0, 10, count))
    first = arrival + rng.gamma(2.0, 0.2, count)
    end = first + rng.gamma(2.0, 0.5, count)
    timeline = Timeline(10)
    sofar = SoFar(timeline)
    for now in np.linspace(0.1, 20, 80):
        while timeline.count < count and arrival[timeline.count] <= now:
            timeline.arrived([1], [0], float(arrival[timeline.count]))
        for slot in range(timeline.count):
            if first[slot] <= now:
                timeline.first_token_s[slot] = float(first[slot])
            if end[slot] <= now:
                timeline.end_s[slot], timeline.answer_tokens[slot] = float(end[slot]), 11
        sofar.look()
        told = sofar.fields(streaming=True)
        assert told["waiting"] == int(((arrival <= now) & (first > now)).sum())
        assert told["running"] == int(((first <= now) & (end > now)).sum())
        assert sofar.ttft.count == int((first <= now).sum())
        assert sofar.tpot.count == int((end <= now).sum())
    assert told["ttft_p99_ms"] == pytest.approx(1000 * np.quantile(first - arrival, 0.99), rel=0.02)
    assert told["tpot_p50_ms"] == pytest.approx(100 * np.median(end - first), rel=0.02)


def test_without_first_tokens_nothing_is_said_of_them() -> None:
    timeline = Timeline(5)
    timeline.arrived([1] * 5, [0] * 5, 0.0)
    timeline.end_s[1] = 2.0
    sofar = SoFar(timeline)
    sofar.look()
    assert sofar.fields(streaming=False) == {"running": 4}


def test_a_look_costs_little() -> None:
    """At 40,000 requests behind it and 500 open ones."""
    timeline = Timeline(40_500)
    timeline.arrived([1] * 40_500, [0] * 40_500, 0.0)
    for slot in range(40_000):
        timeline.first_token_s[slot], timeline.end_s[slot], timeline.answer_tokens[slot] = 1.0, 2.0, 128
    sofar = SoFar(timeline)
    sofar.look()
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        sofar.look()
        sofar.fields(streaming=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.002


def test_the_time_left_begins_with_the_plan_and_ends_with_what_was_measured() -> None:
    plan = plan_of(rules.OFFLINE, samples=8, duration_s=100.0, target_qps=10.0)
    planned = plan.expected_seconds
    assert planned is not None and planned > 100
    assert eta_s(plan, 0.0, 0, 0) == pytest.approx(planned)
    # Half of it in half the time that the plan gives it.
    half = plan.expected_queries // 2
    assert eta_s(plan, planned / 4, half, plan.expected_queries) == pytest.approx(planned / 4, rel=0.1)
    assert eta_s(plan, planned, plan.expected_queries, plan.expected_queries) == 0


def test_servers_time_left_is_its_schedules() -> None:
    plan = plan_of(rules.SERVER, samples=8, duration_s=60.0, target_qps=10.0)
    planned = plan.expected_seconds
    assert planned is not None
    # The first answers come late; the schedule stays.
    assert eta_s(plan, 6.0, 3, 60) == pytest.approx(planned - 6.0)
    behind = plan.expected_queries // 2
    late = eta_s(plan, planned + 10, behind, plan.expected_queries)
    assert late is not None and 0 < late <= planned


def test_single_stream_lasts_at_least_its_duration() -> None:
    plan = plan_of(rules.SINGLE_STREAM, samples=8, duration_s=60.0, expected_latency_ms=100.0)
    assert eta_s(plan, 10.0, plan.expected_queries - 1, plan.expected_queries) == pytest.approx(50.0)


def test_nobody_knows_how_long_offline_takes_without_a_speed() -> None:
    plan = plan_of(rules.OFFLINE, samples=8, target_qps=None)
    assert eta_s(plan, 0.0, 0, 8) is None
    assert eta_s(plan, 5.0, 4, 8) == pytest.approx(5.0 * (plan.expected_queries - 4) / 4)
