"""Tuned values: kept, found again, and weaker than the user's; the grid; the planner."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlperf_llama import config, rules
from mlperf_llama.bench import planner
from mlperf_llama.bench.warm_up import Speed
from mlperf_llama.engine import tuned
from mlperf_llama.engine.preset import Preset, ScenarioSettings
from mlperf_llama.engine.settings import apply_tuned
from mlperf_llama.errors import UsageError
from mlperf_llama.records import codec
from mlperf_llama.records.events import Events
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Gpu
from mlperf_llama.sources.model import checkpoint
from mlperf_llama.tune import grid, probes, records, tuner
from mlperf_llama.tune.forecast import Bound, Forecast, Goal
from mlperf_llama.tune.grid import Point
from mlperf_llama.tune.search import Step

OFFICIAL = checkpoint.combined(checkpoint.SHARDS)
PRESET = {"quantization": "fp8", "kv_cache_dtype": "fp8"}


def identity(**env: str) -> dict[str, object]:
    settings = config.load({}, {f"MLPERF_{k}": v for k, v in env.items()})
    return tuned.identity(settings, OFFICIAL, PRESET)


def test_an_entry_is_found_again_by_its_identity_alone(tmp_path: Path) -> None:
    path = tmp_path / "tuned" / "gpu.toml"
    tuned.save(path, identity(), "Server", {"target_qps": 50.0, "duration_s": 600.0})
    tuned.save(path, identity(), "engine", {"max_num_seqs": 384})
    tuned.save(path, identity(DTYPE="bfloat16"), "Server", {"target_qps": 40.0, "duration_s": 600.0})
    kept = tuned.read(path, identity())
    assert kept.engine == {"max_num_seqs": 384}
    assert kept.target_qps("Server", 600.0) == 50.0
    assert tuned.read(path, identity(DTYPE="bfloat16")).target_qps("Server", 600.0) == 40.0
    assert tuned.read(path, identity(KV_CACHE_DTYPE="auto")) == kept
    others = {"KV_CACHE_DTYPE": "bfloat16", "TENSOR_PARALLEL": "2", "ROUND": "v6.0", "IGNORE_EOS": "1"}
    for other in ({name: value} for name, value in others.items()):
        assert tuned.read(path, identity(**other)) == tuned.Tuned()


def test_values_that_several_processes_save_at_once_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, entries = tmp_path / "tuned" / "gpu.toml", tuned.entries

    def slow(path: Path) -> list[dict[str, Any]]:
        before = entries(path)
        time.sleep(0.01)  # so that an unlocked second one would have read the same
        return before

    monkeypatch.setattr(tuned, "entries", slow)
    numbers = range(6)
    with ThreadPoolExecutor(len(numbers)) as pool:
        list(pool.map(lambda n: tuned.save(path, {"model": str(n)}, "Server", {"target_qps": n}), numbers))
    assert {entry["Server"]["target_qps"] for entry in entries(path)} == set(numbers)
    assert [file.name for file in path.parent.iterdir()] == ["gpu.toml"]


def test_static_scales_have_entries_of_their_own(tmp_path: Path) -> None:
    used = config.load({}, {})
    engine = {"quantization": "fp8"}
    static, dynamic = (tuned.identity(used, "a" * 64, engine, static) for static in (True, False))
    tuned.save(tmp_path / "x.toml", static, "Offline", {"target_qps": 80.0})
    assert tuned.read(tmp_path / "x.toml", static) != tuned.NONE
    assert tuned.read(tmp_path / "x.toml", dynamic) == tuned.NONE


def test_a_second_tuning_replaces_the_first(tmp_path: Path) -> None:
    path = tmp_path / "gpu.toml"
    tuned.save(path, identity(), "Server", {"target_qps": 50.0, "duration_s": 600.0})
    tuned.save(path, identity(), "Server", {"target_qps": 51.0, "duration_s": 600.0})
    assert len(tuned.entries(path)) == 1
    assert tuned.read(path, identity()).target_qps("Server", 600.0) == 51.0


def test_a_value_of_short_runs_is_not_used_for_long_ones(tmp_path: Path) -> None:
    path = tmp_path / "gpu.toml"
    tuned.save(path, identity(), "Server", {"target_qps": 50.0, "duration_s": 20.0})
    kept = tuned.read(path, identity())
    assert kept.target_qps("Server", 20.0) == 50.0
    assert kept.target_qps("Server", 600.0) is None
    assert kept.target_qps("Interactive", 20.0) is None


def test_a_search_that_is_stopped_keeps_what_it_confirmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    records.begin(run, ["qps"])
    session: Any = SimpleNamespace(
        run=run,
        config=config.load({}, {"MLPERF_TARGET_QPS": "50"}),
        events=Events(None),
        scope=SimpleNamespace(duration_s=600.0),
        tuned_path=tmp_path / "gpu.toml",
        identity=identity(),
    )
    seen = iter([("probe", 50.0), ("confirm", 49.0), ("confirm", 52.0)])

    async def run_one(_: Any, kind: str, scenario: str, qps: float, one_member: bool) -> records.Probe:
        if qps == 52.0:
            raise asyncio.CancelledError
        return records.Probe(
            kind, qps, seconds=1.0, loadgen_result="VALID", ttft_p99_ms=900.04, tpot_p99_ms=80.0
        )

    monkeypatch.setattr(probes, "goal_of", lambda *_: Goal(2000.0, 100.0, 1, 100, 600.0))
    monkeypatch.setattr(probes, "run_one", run_one)
    monkeypatch.setattr(tuner, "next_step", lambda *_: Step(*next(seen)))
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(tuner._search(session, "Server", Speed(60.0, 100.0)))
    kept = tuned.read(session.tuned_path, identity())
    assert kept.target_qps("Server", 600.0) == 49.0
    assert [p.qps for p in records.scenario(run, "Server").probes or ()] == [50.0, 49.0]


def test_a_kept_forecast_reads_back_whole() -> None:
    bound = Bound(1.0, 2.0, 3.0)
    forecast = Forecast(bound, bound, bound, 60.0, full=True)
    probe = records.Probe("probe", 58.0, forecast=forecast)
    assert codec.from_json(records.Probe, codec.to_json(probe)).seen().forecast == forecast


def test_words_with_quotes_survive(tmp_path: Path) -> None:
    path = tmp_path / "gpu.toml"
    tuned.save(path, {"model": 'a"b\\c'}, "engine", {"x": 'é"'})
    assert tuned.read(path, {"model": 'a"b\\c'}).engine == {"x": 'é"'}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gpu.toml"
    path.write_text("[[entry]\n")
    with pytest.raises(UsageError, match=r"gpu\.toml"):
        tuned.read(path, identity())


def test_tuned_beats_the_preset() -> None:
    limits = {"Server": ScenarioSettings(prefill_tokens=4096)}
    preset = Preset("h100", {"max_num_seqs": 512, "dtype": "auto"}, {}, limits)
    kept = tuned.Tuned({"max_num_seqs": 384}, {"Server": {"max_num_seqs": 300, "target_qps": 50.0}})
    over = apply_tuned(preset, kept)
    assert over.engine == {"max_num_seqs": 384, "dtype": "auto"}
    assert over.scenarios["Server"] == ScenarioSettings(300, 4096)


def test_files_are_named_after_the_gpu() -> None:
    def name(gpu: str | None, **env: str) -> str:
        settings = config.load({}, {f"MLPERF_{k}": v for k, v in env.items()})
        return tuned.path_of(Path("results"), settings, gpu).as_posix()

    assert name("NVIDIA H100 80GB HBM3") == "results/tuned/nvidia-h100-80gb-hbm3.toml"
    assert name(None) == "results/tuned/cpu.toml"
    assert name("NVIDIA H100", ENGINE="fake") == "results/tuned/fake.toml"


def climb(speed: dict[tuple[int, int], float]) -> tuple[Point, int]:
    centre, measured = Point(512, 8192), {}
    while (point := grid.next_point(measured, centre)) is not None:
        measured[point] = speed.get((point.seats, point.tokens), 40.0)
        assert point.tokens <= grid.MOST_TOKENS
        assert point.seats <= grid.ceilings(centre)["max_num_seqs"]
        assert point.tokens <= grid.ceilings(centre)["max_num_batched_tokens"]
    return grid.best(measured, centre), len(measured)


def test_the_grid_finds_the_fastest_point() -> None:
    assert climb({(384, 8192): 45.0, (384, 16384): 48.0}) == (Point(384, 16384), 6)


def test_the_grid_stays_where_nothing_is_clearly_faster() -> None:
    assert climb({(512, 8192): 40.0, (768, 8192): 40.3})[0] == Point(512, 8192)


def test_plans_are_loadgens_arithmetic() -> None:
    settings = config.load({"SCENARIO": "Server", "TARGET_QPS": "40", "MODE": "performance"}, {})
    text = planner.table(settings, [])
    assert "26,736" in text and "11.0" in text and "your setting" in text


def test_a_plan_takes_the_tuned_value(tmp_path: Path) -> None:
    env = {"MLPERF_RESULTS_DIR": str(tmp_path), "MLPERF_SCENARIO": "Server"}
    path = tmp_path / "tuned" / "nvidia-h100-80gb-hbm3.toml"
    gpu = Gpu(name="NVIDIA H100 80GB HBM3", memory_gib=79.6, compute_capability="9.0")
    assert "measured by the warm-up; here an estimate" in planner.table(config.load({}, env), [gpu])
    tuned.save(path, identity(), "Server", {"target_qps": 51.5, "duration_s": 600.0})
    assert "51.5 queries/s  tuned (nvidia-h100-80gb-hbm3.toml)" in planner.table(config.load({}, env), [gpu])
    mine = planner.table(config.load({"TARGET_QPS": "44"}, env), [gpu])
    assert "44 queries/s" in mine and "tuned" not in mine


@pytest.mark.parametrize("scenario", rules.SCENARIOS)
def test_every_scenario_has_a_plan(scenario: str) -> None:
    edge = scenario == rules.SINGLE_STREAM
    flags = {"SCENARIO": scenario, "MODE": "all", "CATEGORY": "edge" if edge else "datacenter"}
    assert len(planner.table(config.load(flags, {}), []).splitlines()) == 4
