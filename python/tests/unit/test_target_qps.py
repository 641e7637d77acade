"""The speed a run asks for: one rule, and the same number in plan, run and tune."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlperf_llama import config, rules
from mlperf_llama.bench import loadgen_runs, planner, target_qps
from mlperf_llama.bench.scope import Scope, scope_of
from mlperf_llama.bench.target_qps import OfflineSpeed, choose_latency_ms, choose_qps
from mlperf_llama.bench.warm_up import Speed
from mlperf_llama.engine import tuned
from mlperf_llama.engine.preset import choose_preset
from mlperf_llama.errors import UsageError
from mlperf_llama.records.schema import Gpu
from mlperf_llama.sources.model import checkpoint

OFFICIAL = checkpoint.combined(checkpoint.SHARDS)
GPUS = {
    "h100": Gpu(name="NVIDIA H100 80GB HBM3", memory_gib=79.6, compute_capability="9.0"),
    "a30": Gpu(name="NVIDIA A30", memory_gib=24.0, compute_capability="8.0"),
    "l4": Gpu(name="NVIDIA L4", memory_gib=22.5, compute_capability="8.9"),
    "unknown": Gpu(name="Some GPU", memory_gib=48.0, compute_capability="8.6"),
}
# What a tuned file holds: for this model and length, for shorter runs, for another model or round, nothing.
FILES = ("matching", "shorter", "other model", "other round", "none")
TUNED = tuned.Tuned({}, {"Server": {"target_qps": 50.0, "duration_s": 600.0}})
WARM_UP_SPEED = OfflineSpeed(40.0, target_qps.WARM_UP)


def write_tuned(path: Path, settings: config.Config, gpu: Any, file: str) -> None:
    """An entry as `make tune` would leave it."""
    sha256 = "another" if file == "other model" else OFFICIAL
    wanted = tuned.identity(settings, sha256, choose_preset(settings, gpu).engine)
    if file == "other round":
        wanted["round"] = "v5.1"
    seconds = 60.0 if file == "shorter" else 600.0
    for number, scenario in enumerate(rules.CATEGORY_SCENARIOS[rules.DATACENTER]):
        tuned.save(path, wanted, scenario, {"target_qps": 31.25 + number, "duration_s": seconds})


def run_qps(
    settings: config.Config, scenario: str, gpu: Gpu, offline: float, repeated: float | None = None
) -> float | None:
    """What a run with the official weights asks LoadGen for after a warm-up of `offline` samples/s."""
    path = tuned.path_of(Path(settings.results_dir), settings, gpu.name)
    identity = tuned.identity(settings, OFFICIAL, choose_preset(settings, gpu).engine)
    session: Any = SimpleNamespace(
        config=settings,
        scope=scope_of(settings, settings.full_sample_count, on_gpu=True),
        tuned=tuned.read(path, identity),
        repeat_qps={} if repeated is None else {scenario: repeated},
    )
    return loadgen_runs.make_plan(session, scenario, "performance", Speed(offline, 1.0)).target_qps


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("scenario", rules.CATEGORY_SCENARIOS[rules.DATACENTER])
def test_plan_and_run_name_the_same_qps(tmp_path: Path, scenario: str, gpu: str, file: str) -> None:
    settings = config.load({"RESULTS_DIR": str(tmp_path)}, {})
    card = GPUS[gpu]
    path = tuned.path_of(tmp_path, settings, card.name)
    if file != "none":
        write_tuned(path, settings, card, file)
    planned = planner.choose(settings, scenario, card)
    if file == "matching":
        assert planned.source == f"tuned ({path.name})"
        assert planned.value == run_qps(settings, scenario, card, 7.0) != None  # noqa: E711
        return
    # The plan says that the run will measure; its estimate is what the run takes if it measures so much.
    assert planned.source in (target_qps.WARM_UP, target_qps.ESTIMATE)
    assert (planned.value is None) == (gpu == "unknown")
    speed = planner.expected_speed(choose_preset(settings, card), card)
    if speed is not None:
        assert planned.value == run_qps(settings, scenario, card, speed.middle)
    assert run_qps(settings, scenario, card, 20.0) != run_qps(settings, scenario, card, 10.0)


@pytest.mark.parametrize("scenario", rules.CATEGORY_SCENARIOS[rules.DATACENTER])
def test_the_user_s_value_stands_in_both(tmp_path: Path, scenario: str) -> None:
    settings = config.load({"RESULTS_DIR": str(tmp_path), "TARGET_QPS": "44"}, {})
    card = GPUS["h100"]
    write_tuned(tuned.path_of(tmp_path, settings, card.name), settings, card, "matching")
    planned = planner.choose(settings, scenario, card)
    assert (planned.value, planned.source) == (44.0, "your setting")
    assert run_qps(settings, scenario, card, 7.0) == 44.0


def test_a_shortened_run_may_take_what_was_tuned_for_shorter_ones(tmp_path: Path) -> None:
    settings = config.load({"RESULTS_DIR": str(tmp_path), "DURATION_S": "60"}, {})
    card = GPUS["h100"]
    write_tuned(tuned.path_of(tmp_path, settings, card.name), settings, card, "shorter")
    assert planner.choose(settings, "Server", card).value == 32.25
    assert run_qps(settings, "Server", card, 7.0) == 32.25


def test_a_model_of_the_user_s_takes_the_only_entry_there_is(tmp_path: Path) -> None:
    """Its hash is not known before the run; two models' entries leave the plan without an answer."""
    settings = config.load({"RESULTS_DIR": str(tmp_path), "MODEL": "/some/model"}, {})
    card = GPUS["h100"]
    path = tuned.path_of(tmp_path, settings, card.name)
    write_tuned(path, settings, card, "other model")
    assert planner.choose(settings, "Offline", card).value == 31.25
    write_tuned(path, settings, card, "matching")
    assert planner.choose(settings, "Offline", card).source == target_qps.ESTIMATE


def test_what_stands_over_what() -> None:
    def value(**inputs: Any) -> float | None:
        return choose_qps("Server", 600.0, **({"user": None} | inputs)).value

    assert value(user=44.0, tuned=TUNED, repeated=30.0, offline=WARM_UP_SPEED) == 44.0
    assert value(tuned=TUNED, repeated=30.0, offline=WARM_UP_SPEED) == 30.0
    assert value(tuned=TUNED, offline=WARM_UP_SPEED) == 50.0
    assert value(offline=WARM_UP_SPEED) == 24.0
    assert value() is None
    assert choose_qps("Server", 601.0, None, TUNED, WARM_UP_SPEED).value == 24.0


@pytest.mark.parametrize(
    ("scenario", "warm_up", "short_run"),
    [("Offline", 50.0, 44.0), ("Server", 24.0, 30.0), ("Interactive", 24.0, 24.0)],
)
def test_shares_of_a_measured_speed(scenario: str, warm_up: float, short_run: float) -> None:
    def of(source: str) -> float | None:
        return choose_qps(scenario, 600.0, None, offline=OfflineSpeed(40.0, source)).value

    assert of(target_qps.WARM_UP) == of(target_qps.ESTIMATE) == warm_up
    assert of(target_qps.SHORT_RUN) == short_run


def test_a_guess_has_no_more_digits_than_it_is_worth_and_is_never_zero() -> None:
    assert choose_qps("Server", 600.0, None, offline=OfflineSpeed(41.23456, target_qps.WARM_UP)).value == 24.7
    assert choose_qps("Server", 600.0, None, offline=OfflineSpeed(1e-9, target_qps.WARM_UP)).value == 0.001
    assert target_qps.repeat_qps(10.0) == 12.5


def test_single_stream_expects_a_latency() -> None:
    kept = tuned.Tuned({}, {"SingleStream": {"expected_latency_ms": 240.0}})
    assert choose_latency_ms(300.0, kept, 250.0).value == 300.0
    assert choose_latency_ms(None, kept, 250.0).value == 240.0
    assert choose_latency_ms(None, measured_ms=251.26).value == 251.0
    assert choose_latency_ms(None).value is None


def test_a_run_again_takes_the_speed_of_the_run_that_was_too_short(tmp_path: Path) -> None:
    settings = config.load({"RESULTS_DIR": str(tmp_path)}, {})
    assert run_qps(settings, "Offline", GPUS["h100"], 7.0) == 8.75
    assert run_qps(settings, "Offline", GPUS["h100"], 7.0, repeated=30.0) == 30.0


ROOM = 8_000_000_000


@pytest.mark.parametrize("scenario", rules.SCENARIOS)
def test_a_speed_whose_queries_memory_cannot_hold(scenario: str) -> None:
    """The user's own is refused with one that will do, a guess is lowered to it."""
    single = scenario == rules.SINGLE_STREAM
    name = "EXPECTED_LATENCY_MS: expected at least" if single else "TARGET_QPS: expected at most"
    wild = 1e-7 if single else 1e8
    with pytest.raises(UsageError, match=name) as refused:
        planner.within_memory(target_qps.Choice(wild, target_qps.USER), scenario, 600.0, ROOM)
    assert "8.0 GB of memory" in str(refused.value)
    lowered = planner.within_memory(target_qps.Choice(wild, target_qps.ESTIMATE), scenario, 600.0, ROOM)
    assert lowered.value is not None and f" {lowered.value:g}, since" in str(refused.value)
    for source in (target_qps.USER, target_qps.ESTIMATE):
        held = target_qps.Choice(lowered.value * (1.01 if single else 0.99), source)
        assert planner.within_memory(held, scenario, 600.0, ROOM) == held
        usual = target_qps.Choice(5000.0, source)
        assert planner.within_memory(usual, scenario, 600.0, ROOM) == usual


@pytest.mark.parametrize(("engine", "bounded"), [("fake", True), ("vllm", False)])
def test_a_rate_guessed_for_the_fake_engine_is_bounded(
    engine: str, bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers at once: 600 seconds of that would be tens of millions of queries."""
    monkeypatch.setattr(planner, "free_bytes", lambda: 1 << 40)
    settings = config.load({"ENGINE": engine, "SAMPLES": "16"}, {})
    scope = Scope(16, 13368, 600.0, on_gpu=False)
    guess = target_qps.Choice(40_000.0, target_qps.WARM_UP)
    planned = planner.make_plan(settings, scope, rules.OFFLINE, "performance", guess)
    assert (planned.expected_queries <= 1.01 * planner.MOST_FAKE_QUERIES) == bounded
    wanted = planner.make_plan(
        settings, scope, rules.OFFLINE, "performance", target_qps.Choice(2000.0, target_qps.USER)
    )
    assert wanted.expected_queries > 2 * planner.MOST_FAKE_QUERIES, "the user's own stays"
