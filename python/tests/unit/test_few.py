"""Shortened runs: when they are not judged, and what so few queries show."""

from __future__ import annotations

from pathlib import Path

import pytest
from loadgen_support import plan_of, run_fake

from mlperf_llama import rules
from mlperf_llama.loadgen import few, logs
from mlperf_llama.loadgen.logs import Detail
from mlperf_llama.verdict import test06

REASON = few.too_few(rules.SERVER, 16, 0.3)
MS = 1_000_000


def detail(errors: tuple[str, ...] = (), **entries: object) -> Detail:
    """A Server run of 16 queries, all within the limits unless `entries` say otherwise."""
    within = {
        "result_validity": "INVALID",
        "result_min_duration_met": True,
        "result_min_queries_met": True,
        "result_query_count": 16,
        "result_first_token_max_latency_ns": 700 * MS,
        "result_time_to_output_token_max": 40 * MS,
    }
    return Detail(Path("log"), {**within, **entries}, errors, ())


def test_the_reason_says_how_many_are_needed_and_how_to_have_them() -> None:
    assert REASON == "too few queries for a p99: not judged (16 of 459; DURATION_S=1530 sends enough)"
    assert few.too_few(rules.SINGLE_STREAM, 32, 1.0).startswith(
        "too few queries for a p90: not judged (32 of 64"
    )


@pytest.mark.parametrize(("scenario", "queries"), [(rules.SERVER, 459), (rules.OFFLINE, 1)])
def test_enough_queries_are_judged(scenario: str, queries: int) -> None:
    assert few.too_few(scenario, queries, 1.0) == ""
    assert few.not_judged(detail(), scenario, "") == ""


def test_so_few_queries_show_the_percentile_that_they_carry() -> None:
    assert (
        few.not_judged(detail(), rules.SERVER, REASON)
        == f"{REASON}; all within the limits, which shows a p74"
    )


def test_a_limit_that_is_passed_is_named() -> None:
    late = detail(result_first_token_max_latency_ns=3100 * MS)
    assert few.not_judged(late, rules.SERVER, REASON) == f"{REASON}; TTFT up to 3,100 ms of 2000"
    assert few.not_judged(late, rules.INTERACTIVE, REASON).endswith(
        "TTFT up to 3,100 ms of 500, TPOT up to 40 ms of 30"
    )


@pytest.mark.parametrize(
    "broken",
    [detail(("no tokens",)), detail(result_min_duration_met=False), detail(result_min_queries_met=False)],
)
def test_an_invalid_run_with_another_cause_stays_invalid(broken: Detail) -> None:
    assert few.not_judged(broken, rules.SERVER, REASON) == ""


@pytest.mark.parametrize(("queries", "percentile"), [(1, 1), (7, 51), (44, 90), (90, 95), (459, 99)])
def test_percentiles_follow_early_stopping(queries: int, percentile: int) -> None:
    """early_stopping.cc: 459 queries, none over the limit, for a 99th percentile."""
    assert few.carried(queries) == percentile


def test_no_more_queries_than_fit_and_one_pass_at_least() -> None:
    assert few.limited(459, 16, 1.0, 0.3) == 16
    assert few.limited(459, 16, 1.0, 0.6) == 32
    assert few.limited(459, 16, 1.0, 7.65) == 459
    assert few.limited(459, 5000, 1.0, 0.3) == 459


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["performance", "compliance"])
def test_loadgen_sends_as_few_as_planned(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real LoadGen calls so few INVALID for its early stopping alone; TEST06's responses are right."""
    monkeypatch.setattr(few, "LONGEST_S", 0.2)
    plan = plan_of(rules.SERVER, mode, samples=16, target_qps=100.0)
    result = run_fake({"ttft_ms": 4, "tpot_ms": 0.1, "output_tokens": 41}, plan, tmp_path)
    assert result.samples == plan.expected_queries < 100
    log = logs.read_detail(tmp_path)
    if mode == "performance":
        assert log.validity == "INVALID"
        reason = few.not_judged(log, rules.SERVER, plan.too_few)
        assert reason.startswith("too few queries for a p99: not judged")
    else:
        verification = test06.verify(tmp_path / logs.ACCURACY, rules.SERVER)
        assert (verification.records, verification.faulty) == (plan.expected_queries, False)
        assert plan.too_few.startswith("too few responses for TEST06: not judged (20 of 100")
