"""Real LoadGen, every round and scenario, with the fake engine; and how a run can break."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from loadgen_support import COMBINATIONS, LIMITS, Idle, Prompts, plan_of, run_engine, run_fake, run_plan

from mlperf_llama import rules
from mlperf_llama.engine import Limits, Request, Sink
from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.errors import BrokeError, MissingError, UsageError
from mlperf_llama.events import Events
from mlperf_llama.loadgen import drive as driving
from mlperf_llama.loadgen import logs, process
from mlperf_llama.loadgen.plan import Plan

PACKAGES = Path(__file__).parents[2]
VARIED = {"output_tokens": [2, 60]}


def answers(folder: Path) -> dict[int, list[int]]:
    entries = json.loads((folder / logs.ACCURACY).read_text())
    return {e["qsl_idx"]: array("i", bytes.fromhex(e["data"])).tolist() for e in entries}


def check_against_plan(detail: logs.Detail, plan: Plan) -> None:
    """LoadGen's own arithmetic and the round's seeds."""
    issued = detail["generated_query_count"] * detail["generated_samples_per_query"]
    assert issued == plan.expected_queries
    known = rules.ROUNDS[plan.round]
    assert detail.seeds == (known.qsl_rng_seed, known.sample_index_rng_seed, known.schedule_rng_seed)
    assert detail["loadgen_version"].startswith(known.loadgen_version)
    effective = detail.effective
    assert effective["performance_sample_count"] == plan.sample_count
    assert effective["scenario"] == plan.loadgen_scenario
    assert effective["test_mode"] == ("AccuracyOnly" if plan.mode == "accuracy" else "PerformanceOnly")
    if plan.mode != "compliance":
        assert effective["min_duration_ms"] == plan.min_duration_ms
        assert effective["sample_concatenate_permutation"] is True


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

    asyncio.run(body())
    limits_ms = rules.TOKEN_LATENCY_LIMITS_MS.get(scenario)
    if limits_ms:
        summary = (tmp_path / "performance" / logs.SUMMARY).read_text()
        assert f"ttft_latency (ns): {limits_ms[0] * 1e6:.0f}\n" in summary
        assert f"tpot_latency (ns): {limits_ms[1] * 1e6:.0f}\n" in summary
    assert len(answers(tmp_path / "accuracy")) == 24
    assert len(json.loads((tmp_path / "compliance" / logs.ACCURACY).read_text())) == 100


@pytest.mark.parametrize(("category", "scenario"), COMBINATIONS)
def test_the_full_set_runs_as_planned(category: str, scenario: str, tmp_path: Path) -> None:
    count = rules.SAMPLE_COUNT[category]
    speed = {"target_qps": 20000.0, "expected_latency_ms": 0.41, "duration_s": 1.0}
    plan = plan_of(scenario, category=category, samples=count, **speed)
    run_fake({"answer": [7], "output_tokens": 2}, plan, tmp_path)
    check_against_plan(logs.read_detail(tmp_path), plan)


@pytest.mark.parametrize("scenario", [rules.OFFLINE, rules.SERVER, rules.SINGLE_STREAM])
def test_a_second_of_load_is_valid_and_measured(scenario: str, tmp_path: Path) -> None:
    script = {"ttft_ms": 4, "tpot_ms": 0.1, "output_tokens": 41}
    if scenario == rules.OFFLINE:
        script = {"samples_per_s": 100, "output_tokens": 41}
    speed = {"target_qps": 500.0 if scenario == rules.SERVER else 110.0, "expected_latency_ms": 12.0}
    plan = plan_of(scenario, duration_s=1.0, **speed)
    result = run_fake(script, plan, tmp_path)
    found = logs.performance(tmp_path, scenario)
    assert found["loadgen_result"] == "VALID", found["invalid_reasons"]
    assert found["samples_processed"] == result.samples
    assert 1.0 <= found["total_time_seconds"] < 10
    assert found["tokens_per_second"] == pytest.approx(found["samples_per_second"] * 41, rel=0.05)
    if scenario == rules.OFFLINE:
        assert (found["ttft_p99_ms"], found["tpot_p99_ms"], found["latency_p90_ms"]) == (None, None, None)
    else:
        assert 4 <= found["ttft_p99_ms"] < 2000
        assert 0.05 <= found["tpot_p99_ms"] < 100
    if scenario == rules.SINGLE_STREAM:
        assert 8 <= found["latency_p90_ms"] < 2000


@pytest.mark.parametrize("scenario", [rules.OFFLINE, rules.SERVER, rules.SINGLE_STREAM])
def test_tokens_reach_the_accuracy_log_unchanged(scenario: str, tmp_path: Path) -> None:
    plan = plan_of(scenario, "accuracy", samples=30)
    run_fake(VARIED, plan, tmp_path)
    engine, prompts = FakeEngine(VARIED), Prompts(30)
    expected = {i: engine._answer(prompts.prompt(i), LIMITS).tolist() for i in range(30)}
    assert answers(tmp_path) == expected
    for entry in json.loads((tmp_path / logs.ACCURACY).read_text()):
        answer = expected[entry["qsl_idx"]]
        assert entry["token_count"] == len(answer)
        if scenario != rules.OFFLINE:
            assert bytes.fromhex(entry["token_data"]) == array("i", answer[:1]).tobytes()


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
    everything = sorted(Prompts(20).prompt(i) for i in range(20))
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
    run_fake({"samples_per_s": 40}, plan_of(samples=60), tmp_path, events=events, stage="probe")
    assert 2 <= len(shown) <= 10
    assert (shown[-1]["done"], shown[-1]["total"], shown[-1]["unit"]) == (60, 60, "samples")
    assert {event["stage"] for event in shown} == {"probe"}
    assert 0 < shown[0]["samples_per_s"] < 80
    assert shown[0]["tokens_per_s"] == pytest.approx(128 * shown[0]["samples_per_s"], rel=0.01)


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
    found = logs.performance(tmp_path, rules.SINGLE_STREAM)
    assert found["loadgen_result"] == "INVALID"
    assert found["loadgen_errors"] == list(result.errors)
    assert "Decrease the expected latency" in " ".join(found["invalid_reasons"])


# How a run breaks


@pytest.mark.parametrize("round", rules.ROUNDS)
def test_missing_loadgen_names_its_version(round: str, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=rules.ROUNDS[round].loadgen_version):
        run_fake({}, plan_of(round=round), tmp_path, loadgen_root=tmp_path)


def test_loadgen_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "6.0.17").mkdir()
    (tmp_path / "6.0.17" / "mlperf_loadgen.py").write_text("raise ImportError('wrong interpreter')")
    with pytest.raises(BrokeError, match="wrong interpreter"):
        run_fake({}, plan_of(), tmp_path / "out", loadgen_root=tmp_path)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a folder that can be written"):
        run_fake({}, plan_of(), tmp_path / "file" / "out")


def test_too_few_samples(tmp_path: Path) -> None:
    run = driving.drive(FakeEngine({}), Prompts(4), LIMITS, plan_of(), tmp_path, Events(None))
    with pytest.raises(UsageError, match="expected 8 samples, found 4"):
        asyncio.run(run)


def test_corrupt_user_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "user_conf", lambda plan: "*.Offline.target_qps=1\n*.x = y\n")
    with pytest.raises(BrokeError, match=r"user.conf: expected lines .* returned -22"):
        run_fake({}, plan_of(), tmp_path)


def test_model_string_that_matches_nothing(tmp_path: Path) -> None:
    plan = replace(plan_of(), loadgen_model="llama3.1-8b")
    with pytest.raises(BrokeError, match=r"expected settings for model 'llama3\.1-8b', found none"):
        run_fake({}, plan, tmp_path)


def test_loadgen_that_cannot_open_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_folder(plan: Plan, out: Path, conf: Path | None, root: Path | None) -> Any:
        return replace(process.write_spec(plan, out, conf, root), out_dir=str(out / "gone"))

    monkeypatch.setattr(driving, "write_spec", without_folder)
    with pytest.raises(BrokeError, match=r"LoadGen 6\.0\.17 wrote no logs .*Failed to open"):
        run_fake({}, plan_of(), tmp_path)


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [c for c in found if "mlperf_llama.loadgen.child" in c.cmdline()]


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_child_that_dies_is_a_message_and_its_logs_stay(number: signal.Signals, tmp_path: Path) -> None:
    async def body() -> None:
        run = asyncio.create_task(run_plan(FakeEngine({"fault": {"hang_at": 3}}), plan_of(), tmp_path))
        await until(lambda: (tmp_path / logs.DETAIL).exists())
        os.kill(children()[0].pid, number)
        with pytest.raises(BrokeError, match=rf"{number.name} \(code {128 + number}\)"):
            await run

    asyncio.run(body())
    assert (tmp_path / logs.DETAIL).exists()
    assert not children()


def test_engine_that_dies_in_the_middle_and_a_run_after_it(tmp_path: Path) -> None:
    with pytest.raises(BrokeError, match="died after 5 answers"):
        run_fake({"fault": {"die_at": 5}}, plan_of(), tmp_path)
    assert not children()
    assert run_fake({}, plan_of(), tmp_path).samples == 8


def test_engine_that_hangs(tmp_path: Path) -> None:
    with pytest.raises(BrokeError, match=r"expected an answer within 0\.6 s, 5 requests wait"):
        run_fake({"fault": {"hang_at": 3}}, plan_of(), tmp_path, stall_s=0.6)


def test_cancelling_ends_the_child_within_a_second(tmp_path: Path) -> None:
    async def body() -> None:
        run = asyncio.create_task(run_plan(Idle(), plan_of(), tmp_path))
        await until(children)
        begun = time.monotonic()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert time.monotonic() - begun < 1
        assert not children()

    asyncio.run(body())


class Rogue(Idle):
    """Answers each request by `act(sink, request id)`."""

    def __init__(self, act: Callable[[Sink, int], Any]) -> None:
        self._act = act

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        for request in requests:
            asyncio.get_running_loop().call_soon(self._act, sink, request.id)


@pytest.mark.parametrize(
    ("scenario", "act", "message"),
    [
        (rules.OFFLINE, lambda sink, i: sink.completed(i + 10**6, [1, 2]), "unknown or answered before"),
        (rules.OFFLINE, lambda sink, i: [sink.completed(i, [1, 2])] * 2, None),
        (rules.OFFLINE, lambda sink, i: [sink.completed(i, [1, 2]) for _ in "ab"], "unknown or answered"),
        (rules.OFFLINE, lambda sink, i: sink.completed(i, []), "an empty answer"),
        (rules.OFFLINE, lambda sink, i: sink.first_token(i, 1), "not asked for"),
        (rules.SERVER, lambda sink, i: sink.completed(i, [1, 2]), "before its first token"),
        (rules.SERVER, lambda sink, i: [sink.first_token(i, 1) for _ in "ab"], "unknown, sent"),
        (rules.SINGLE_STREAM, lambda sink, i: sink.failed(OSError("no memory")), "engine: died: no memory"),
    ],
)
def test_an_engine_that_breaks_the_protocol_never_reaches_loadgen(
    scenario: str, act: Callable[[Sink, int], Any], message: str | None, tmp_path: Path
) -> None:
    if message is None:
        assert run_engine(Rogue(act), plan_of(scenario), tmp_path).samples == 8
        return
    with pytest.raises(BrokeError, match=message):
        run_engine(Rogue(act), plan_of(scenario), tmp_path)


def test_an_error_inside_submit_ends_the_run(tmp_path: Path) -> None:
    class Broken(Idle):
        def submit(self, requests: Any, limits: Any, streaming: bool, sink: Sink) -> None:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_engine(Broken(), plan_of(), tmp_path)


def test_child_is_out_of_ctrl_c_s_reach_and_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from loadgen_support import *; "
        "run_engine(Idle(), plan_of(), Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    path = f"{PACKAGES}{os.pathsep}{Path(__file__).parent}"
    parent = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL)
    try:
        watched = psutil.Process(parent.pid)
        asyncio.run(until(lambda: watched.children() and (tmp_path / "out" / logs.DETAIL).exists()))
        child = watched.children()[0]
        assert os.getpgid(child.pid) != os.getpgid(parent.pid)
    finally:
        parent.kill()
        parent.wait()
    assert psutil.wait_procs([child], timeout=5)[1] == []
