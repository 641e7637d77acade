"""The engine's settings: what stands over what, and that every changed input is seen."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from mlperf_llama import config, rules
from mlperf_llama.engine import hopper, tuned
from mlperf_llama.engine.oom_fallback import FallbackStep
from mlperf_llama.engine.pacing import Pacing
from mlperf_llama.engine.preset import Preset, ScenarioSettings, load_preset
from mlperf_llama.engine.settings import EngineSettings, ModelFacts, engine_settings
from mlperf_llama.errors import UsageError

ENGINE = {"quantization": "fp8", "max_num_seqs": 512, "max_num_batched_tokens": 4096}
LIMITS = {"Server": ScenarioSettings(400, 1024, Pacing(gap_steps=4))}
PRESET = Preset("some", ENGINE, {"NAME": "1"}, LIMITS)
MODEL = ModelFacts("/model", 2668)


def made(flags: dict[str, str] | None = None, **inputs: Any) -> EngineSettings:
    given: dict[str, Any] = {
        "preset": PRESET,
        "tuned": tuned.NONE,
        "model": MODEL,
        "on_gpu": True,
        "cpu_threads": 6,
    }
    return engine_settings(config.load(flags or {}, {}), **(given | inputs))


def test_the_user_beats_tuning_and_tuning_the_preset() -> None:
    kept = tuned.Tuned({"max_num_seqs": 300, "max_num_batched_tokens": 2048})
    settings = made({"MAX_NUM_SEQS": "200"}, tuned=kept)
    assert settings.arguments["max_num_seqs"] == 200
    assert settings.arguments["max_num_batched_tokens"] == 2048
    assert settings.arguments["quantization"] == "fp8"
    assert "max_num_seqs" in settings.user_fixed and "max_num_batched_tokens" not in settings.user_fixed


def test_prefix_caching_is_off_and_nobody_turns_it_on() -> None:
    assert made().arguments["enable_prefix_caching"] is False
    preset = dataclasses.replace(PRESET, engine={"enable_prefix_caching": True})
    assert made(preset=preset).arguments["enable_prefix_caching"] is False
    with pytest.raises(UsageError, match="ENGINE_ARGS: enable_prefix_caching"):
        made({"ENGINE_ARGS": '{"enable_prefix_caching": true}'})


def test_every_argument_of_the_user_s_is_fixed() -> None:
    settings = made({"ENGINE_ARGS": '{"block_size": 32}', "KV_CACHE_DTYPE": "fp8"})
    assert settings.arguments["block_size"] == 32
    assert {"block_size", "kv_cache_dtype"} <= settings.user_fixed
    assert "quantization" not in settings.user_fixed


def test_a_quantized_checkpoint_says_so_itself() -> None:
    quantized = dataclasses.replace(MODEL, quantized=True)
    assert "quantization" not in made(model=quantized).arguments
    assert made({"QUANTIZATION": "int8"}, model=quantized).arguments["quantization"] == "int8"


def test_random_weights_are_made_up_by_vllm() -> None:
    random = dataclasses.replace(MODEL, random_weights=True)
    arguments = made(model=random).arguments
    assert (arguments["load_format"], arguments["worker_extension_cls"]) == ("dummy", hopper.RANDOM)
    assert "load_format" not in made().arguments
    both = made(model=random, preset=load_preset("h100")).arguments
    assert both["worker_extension_cls"] == hopper.RANDOM_EXTENSION


def test_fallback_steps_come_last_and_in_order() -> None:
    steps = [FallbackStep("max_num_seqs", 512, 384), FallbackStep("max_num_seqs", 384, 288)]
    assert made(oom_overrides=steps).arguments["max_num_seqs"] == 288
    graphs = [FallbackStep("max_cudagraph_capture_size", 512, 256)]
    sized = dataclasses.replace(PRESET, engine={"compilation_config": {"cudagraph_capture_sizes": [512]}})
    config_now = made(preset=sized, oom_overrides=graphs).arguments["compilation_config"]
    assert config_now == {"max_cudagraph_capture_size": 256}


def test_a_cpu_gets_its_threads_and_the_scheduler_that_waits() -> None:
    cpu, card = made(on_gpu=False), made()
    assert cpu.environment == {"OMP_NUM_THREADS": "6", "NAME": "1"}
    assert card.environment == {"NAME": "1"}
    assert cpu.arguments["scheduler_cls"].endswith(".CappedScheduler")
    assert card.arguments["scheduler_cls"].endswith(".CappedAsyncScheduler")


def test_every_scenario_has_its_limits() -> None:
    settings = made()
    assert set(settings.scenarios) == set(rules.SCENARIOS)
    assert settings.scenarios["Server"] == LIMITS["Server"]
    assert settings.scenarios["Offline"] == ScenarioSettings()
    kept = tuned.Tuned({}, {"Server": {"max_num_seqs": 300, "target_qps": 50.0}})
    assert made(tuned=kept).scenarios["Server"] == ScenarioSettings(300, 1024, Pacing(gap_steps=4))


def test_raised_ceilings_leave_the_runs_limits_where_they_were() -> None:
    settings = made(ceilings={"max_num_seqs": 768, "max_num_batched_tokens": 8192})
    assert settings.arguments["max_num_seqs"] == 768
    assert settings.arguments["max_num_batched_tokens"] == 8192
    assert settings.scenarios["Offline"] == ScenarioSettings(512, 4096)
    assert settings.scenarios["Server"] == LIMITS["Server"]


def test_the_record_names_limits_and_what_pacing_changes() -> None:
    assert made().scenarios["Server"].record() == {
        "scenario_max_num_seqs": 400,
        "scenario_prefill_tokens": 1024,
        "gap_steps": 4,
    }
    assert ScenarioSettings().record() == {"scenario_max_num_seqs": None, "scenario_prefill_tokens": None}


def test_the_same_inputs_give_the_same_settings() -> None:
    assert made() == made()
    assert dict(PRESET.engine) == ENGINE
