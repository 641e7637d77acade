"""The arithmetic of a run's length; test_drive.py compares it with LoadGen's own."""

from __future__ import annotations

import pytest
from loadgen_support import plan_of

from mlperf_llama import rules
from mlperf_llama.errors import UsageError
from mlperf_llama.loadgen import plan as plans
from mlperf_llama.loadgen.plan import Plan, make_plan


def full(category: str, scenario: str, **speeds: float | None) -> Plan:
    count = rules.SAMPLE_COUNT[category]
    return make_plan("v6.1", category, scenario, "performance", count, count, **speeds)


@pytest.mark.parametrize(
    ("qps", "samples"), [(None, 13368), (20.0, 13368), (20.3, 26736), (40.0, 26736), (45.13, 40104)]
)
def test_offline_full_run(qps: float | None, samples: int) -> None:
    plan = full(rules.DATACENTER, rules.OFFLINE, target_qps=qps)
    assert plan.expected_queries == samples
    assert not plan.shortened
    assert plan.expected_seconds == (None if qps is None else samples / qps)


@pytest.mark.parametrize(
    ("qps", "queries", "seconds"), [(40.0, 26736, 668), (8.0, 13368, 1671), (22.0, 13368, 608)]
)
def test_server_full_run(qps: float, queries: int, seconds: float) -> None:
    plan = full(rules.DATACENTER, rules.SERVER, target_qps=qps)
    assert plan.expected_queries == queries
    assert plan.expected_seconds == pytest.approx(seconds, rel=0.02)


@pytest.mark.parametrize(("latency_ms", "queries"), [(None, 125000), (240.0, 10000), (241.0, 5000)])
def test_single_stream_full_run(latency_ms: float | None, queries: int) -> None:
    plan = full(rules.EDGE, rules.SINGLE_STREAM, expected_latency_ms=latency_ms)
    assert plan.expected_queries == queries
    assert plan.expected_seconds == queries * (latency_ms or 10.0) / 1000


def test_interactive_is_server_under_another_model() -> None:
    plan = full(rules.DATACENTER, rules.INTERACTIVE, target_qps=30.0)
    assert (plan.loadgen_model, plan.loadgen_scenario) == ("llama3_1-8b-interactive", rules.SERVER)
    assert plan.streaming
    assert plans.user_conf(plan) == "*.Server.target_qps = 30.0\n"


def test_user_conf_of_a_full_run_states_only_its_speed() -> None:
    assert plans.user_conf(full(rules.DATACENTER, rules.OFFLINE, target_qps=45.0)) == (
        "*.Offline.target_qps = 45.0\n"
    )
    assert plans.user_conf(full(rules.EDGE, rules.SINGLE_STREAM, expected_latency_ms=300.0)) == (
        "*.SingleStream.target_latency = 300.0\n"
    )


def test_user_conf_of_a_shortened_run() -> None:
    plan = plan_of(rules.SERVER, samples=24, duration_s=1.5, target_qps=3.0)
    assert plan.shortened
    assert plans.user_conf(plan).splitlines() == [
        "*.Server.target_qps = 3.0",
        "*.Server.min_duration = 1500",
        "*.Server.min_query_count = 168",
        "*.Server.performance_sample_count_override = 24",
    ]


@pytest.mark.parametrize(
    ("duration_s", "qps", "queries"),
    [(5.0, 0.2, 8), (5.0, 0.3, 16), (2000.0, 0.3, 464), (2400.0, 0.2, 464), (5.0, 7.7, 464), (5.0, 1e-3, 8)],
)
def test_a_shortened_server_run_ends_in_a_minute_unless_it_shall_be_longer(
    duration_s: float, qps: float, queries: int
) -> None:
    plan = plan_of(rules.SERVER, samples=8, duration_s=duration_s, target_qps=qps)
    assert plan.least_queries <= queries
    assert plan.expected_queries - queries in range(200 if duration_s > 60 else 8)
    assert bool(plan.too_few) == (plan.expected_queries < 459)


def test_few_queries_are_planned_for_single_stream_and_test06_too() -> None:
    plan = plan_of(rules.SINGLE_STREAM, samples=8, expected_latency_ms=4000.0)
    assert (plan.expected_queries, plan.expected_seconds) == (8, 32)
    audit = plan_of(rules.SERVER, "compliance", samples=8, target_qps=0.3)
    assert audit.expected_queries == 18
    assert "*.*.min_query_count = 18\n" in plans.audit_conf(audit)
    assert audit.too_few.startswith("too few responses for TEST06: not judged (18 of 100; ")


def test_a_full_run_is_as_long_as_the_rules_say_however_slow() -> None:
    for mode, queries in (("performance", 13368), ("accuracy", 13368), ("compliance", 100)):
        plan = make_plan("v6.1", rules.DATACENTER, rules.SERVER, mode, 13368, 13368, target_qps=0.2)
        assert (plan.expected_queries, plan.too_few) == (queries, "")


@pytest.mark.parametrize("mode", rules.MODES)
def test_user_conf_is_the_same_for_every_mode(mode: str) -> None:
    assert plans.user_conf(plan_of(mode=mode)) == plans.user_conf(plan_of())


def test_a_short_duration_alone_shortens() -> None:
    count = rules.SAMPLE_COUNT[rules.EDGE]
    plan = make_plan("v6.1", rules.EDGE, rules.OFFLINE, "performance", count, count, duration_s=30)
    assert plan.shortened
    assert "*.Offline.min_duration = 30000" in plans.user_conf(plan)


def test_compliance_asks_for_100_samples() -> None:
    assert plan_of(mode="compliance").expected_queries == 100
    assert "*.*.accuracy_log_rng_seed = 720381539243781796\n" in plans.audit_conf(plan_of(mode="compliance"))


def test_impossible_plans_are_usage_errors() -> None:
    with pytest.raises(UsageError, match="SAMPLES: expected 1 to 13368, found 0"):
        plan_of(samples=0)
    with pytest.raises(UsageError, match="SCENARIO: expected one of SingleStream, Offline"):
        plan_of(rules.SERVER, category=rules.EDGE)


def test_schedule_starts_at_zero_and_keeps_the_mean_rate() -> None:
    times = plans.schedule_ns(rules.ROUNDS["v6.1"].schedule_rng_seed, 50.0, 20001)
    assert times[0] == 0
    assert times[-1] / 1e9 == pytest.approx(400, rel=0.03)
