"""Real LoadGen, every round, scenario and mode, with the fake engine."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from loadgen_support import COMBINATIONS, LIMITS, Prompts, plan_of, run_engine, run_fake, run_plan

from mlperf_llama import rules
from mlperf_llama.engine import Limits, Request, Sink
from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.errors import UsageError
from mlperf_llama.loadgen import accuracy_log, logs
from mlperf_llama.loadgen.plan import Plan
from mlperf_llama.records.events import Events

pytestmark = pytest.mark.slow

VARIED = {"output_tokens": [2, 60]}


def responses(folder: Path) -> dict[int, list[int]]:
    return {r.index: list(r.tokens) for r in accuracy_log.read(folder / logs.ACCURACY)}


def check_against_plan(detail: logs.Detail, plan: Plan) -> None:
    """LoadGen's own arithmetic and the round's seeds."""
    issued = detail["generated_query_count"] * detail["generated_samples_per_query"]
    assert issued == plan.expected_queries
    known = rules.ROUNDS[plan.round]
    assert detail.seeds == (known.qsl_rng_seed, known.sample_index_rng_seed, known.schedule_rng_seed)
    assert detail["loadgen_version"].startswith(known.loadgen_version)
    assert detail["effective_performance_sample_count"] == plan.sample_count
    assert detail["effective_scenario"] == plan.loadgen_scenario
    assert detail["effective_test_mode"] == ("AccuracyOnly" if plan.mode == "accuracy" else "PerformanceOnly")
    if plan.mode != "compliance":
        assert detail["effective_min_duration_ms"] == plan.min_duration_ms
        assert detail["effective_sample_concatenate_permutation"] is True


@pytest.mark.parametrize("round", rules.ROUNDS)
@pytest.mark.parametrize(("category", "scenario"), COMBINATIONS)
def test_every_mode_runs_as_planned(round: str, category: str, scenario: str, tmp_path: Path) -> None:
    async def body() -> None:
        engine = FakeEngine(VARIED)
        for mode in rules.MODES:
            plan = plan_of(scenario, mode, round, category, samples=24)
            result = await run_plan(engine, plan, tmp_path / mode)
            detail = logs.read_detail(tmp_path / mode)
            check_against_plan(detail, plan)
            assert result.errors == detail.errors == ()
            assert result.samples == plan.expected_queries
            if mode == "performance":
                assert detail.validity == "VALID", detail.invalid_reasons
                assert logs.samples_processed(detail) == result.samples
            assert result.timed_s[1] - result.timed_s[0] == pytest.approx(result.driven.seconds, abs=0.001)
            record = result.requests
            assert len(record) == result.samples and set(record.sample.tolist()) <= set(range(24))
            assert (record.arrival_s <= record.end_s).all() and record.arrival_s[0] == 0
            assert int(record.answer_tokens.sum()) == result.tokens
            streamed = record.first_token_s <= record.end_s
            assert streamed.all() if plan.streaming else not streamed.any()

    asyncio.run(body())
    limits_ms = rules.TOKEN_LATENCY_LIMITS_MS.get(scenario)
    if limits_ms:
        summary = (tmp_path / "performance" / logs.SUMMARY).read_text()
        assert f"ttft_latency (ns): {limits_ms[0] * 1e6:.0f}\n" in summary
        assert f"tpot_latency (ns): {limits_ms[1] * 1e6:.0f}\n" in summary
    assert len(responses(tmp_path / "accuracy")) == 24
    assert len(json.loads((tmp_path / "compliance" / logs.ACCURACY).read_text())) == 100


@pytest.mark.parametrize(("category", "scenario"), COMBINATIONS)
def test_the_full_set_runs_as_planned(category: str, scenario: str, tmp_path: Path) -> None:
    count = rules.SAMPLE_COUNT[category]
    speed: dict[str, Any] = {"target_qps": 20000.0, "expected_latency_ms": 0.41, "duration_s": 1.0}
    plan = plan_of(scenario, category=category, samples=count, **speed)
    run_fake({"answer": [7], "output_tokens": 2}, plan, tmp_path)
    check_against_plan(logs.read_detail(tmp_path), plan)


@pytest.mark.parametrize("scenario", [rules.OFFLINE, rules.SERVER, rules.SINGLE_STREAM])
def test_a_second_of_load_is_valid_and_measured(scenario: str, tmp_path: Path) -> None:
    script: dict[str, Any] = {"ttft_ms": 4, "tpot_ms": 0.1, "output_tokens": 41}
    if scenario == rules.OFFLINE:
        script = {"samples_per_s": 100, "output_tokens": 41}
    speed: dict[str, Any] = {
        "target_qps": 500.0 if scenario == rules.SERVER else 110.0,
        "expected_latency_ms": 12.0,
    }
    plan = plan_of(scenario, duration_s=1.0, **speed)
    result = run_fake(script, plan, tmp_path)
    measured = logs.performance(tmp_path, scenario)
    assert measured.loadgen_result == "VALID", measured.invalid_reasons
    assert measured.samples_processed == result.samples
    assert 1.0 <= measured.total_time_seconds < 10
    assert measured.tokens_per_second == pytest.approx(measured.samples_per_second * 41, rel=0.05)
    if scenario == rules.OFFLINE:
        assert (measured.ttft_p99_ms, measured.tpot_p99_ms, measured.latency_p90_ms) == (None, None, None)
    else:
        assert 4 <= measured.ttft_p99_ms < 2000
        assert 0.05 <= measured.tpot_p99_ms < 100
    if scenario == rules.SINGLE_STREAM:
        assert 8 <= measured.latency_p90_ms < 2000


@pytest.mark.parametrize("scenario", [rules.OFFLINE, rules.SERVER, rules.SINGLE_STREAM])
def test_tokens_reach_the_accuracy_log_unchanged(scenario: str, tmp_path: Path) -> None:
    plan = plan_of(scenario, "accuracy", samples=30)
    run_fake(VARIED, plan, tmp_path)
    engine, prompts = FakeEngine(VARIED), Prompts(30)
    expected = {i: engine._answer(prompts.prompt(i), LIMITS).tolist() for i in range(30)}
    assert responses(tmp_path) == expected
    for response in accuracy_log.read(tmp_path / logs.ACCURACY):
        tokens = tuple(expected[response.index])
        assert response.token_count == len(tokens)
        if scenario != rules.OFFLINE:
            assert response.first_tokens == tokens[:1]


class Recorder(FakeEngine):
    """Notes the order in which prompts arrive."""

    def __init__(self) -> None:
        super().__init__({})
        self.seen: list[list[int]] = []

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        self.seen += [list(request.prompt) for request in requests]
        super().submit(requests, limits, streaming, sink)


@pytest.mark.parametrize("order", ["as-is", "longest-first", "shortest-first"])
def test_offline_order_stays_inside_each_pass(order: str, tmp_path: Path) -> None:
    engine = Recorder()
    plan = plan_of(samples=20, duration_s=0.01, target_qps=5000.0)
    assert plan.expected_queries == 60
    run_engine(engine, plan, tmp_path, order=order)
    passes = [engine.seen[start : start + 20] for start in range(0, 60, 20)]
    everything = sorted(list(Prompts(20).prompt(i)) for i in range(20))
    for one in passes:
        assert sorted(one) == everything
        lengths = [len(prompt) for prompt in one]
        assert (lengths == sorted(lengths, reverse=True)) == (order == "longest-first")
        assert (lengths == sorted(lengths)) == (order == "shortest-first")


def test_order_is_for_offline_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="as-is outside Offline"):
        run_fake({}, plan_of(rules.SERVER), tmp_path, order="longest-first")


def test_progress_comes_at_most_twice_a_second_and_ends_at_the_total(tmp_path: Path) -> None:
    shown: list[dict[str, Any]] = []
    events = Events(None, shown.append)
    begun = time.monotonic()
    run_fake({"samples_per_s": 40}, plan_of(samples=60), tmp_path, events=events, stage="probe")
    assert 3 <= len(shown) <= 2 * (time.monotonic() - begun) + 2
    assert (shown[0]["done"], shown[0]["total"]) == (0, 60)
    assert (shown[-1]["done"], shown[-1]["total"], shown[-1]["unit"]) == (60, 60, "samples")
    assert {event["stage"] for event in shown} == {"probe"}
    assert 0 < shown[1]["samples_per_s"] < 80
    assert shown[1]["tokens_per_s"] == pytest.approx(128 * shown[1]["samples_per_s"], rel=0.01)


def test_nothing_reaches_our_stdout(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run_fake({}, plan_of(), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_audit_config_of_the_working_directory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "audit.config").write_text("*.*.min_query_count = 7777\n")
    monkeypatch.chdir(tmp_path)
    result = run_fake({}, plan_of(), Path("out"), conf_path=tmp_path / "user.conf")
    assert result.samples == 8
    assert not any("audit" in warning for warning in result.warnings)
    assert (tmp_path / "user.conf").read_text().startswith("*.Offline.target_qps")


def test_loadgen_s_error_lines_are_recorded(tmp_path: Path) -> None:
    plan = plan_of(rules.SINGLE_STREAM, duration_s=1.0, expected_latency_ms=500.0)
    result = run_fake({"output_tokens": 2}, plan, tmp_path)
    assert any("Ran out of generated queries" in error for error in result.errors)
    measured = logs.performance(tmp_path, rules.SINGLE_STREAM)
    assert measured.loadgen_result == "INVALID"
    assert measured.loadgen_errors == result.errors
    assert "Decrease the expected latency" in " ".join(measured.invalid_reasons)
