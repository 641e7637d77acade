"""The engine's settings: one pure function of everything they depend on.

The rules' values stand over the user's, those over what tuning found, that over the preset; what a lack of
memory took comes last. A changed input means calling the function again: nothing rewrites its result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .. import rules
from ..config import Config
from ..errors import UsageError
from ..records import scales as records
from ..settings import AUTO
from . import hopper
from .oom_fallback import FallbackStep
from .preset import Preset, ScenarioSettings, VllmArguments
from .tuned import LIMITS, Tuned


@dataclass(frozen=True)
class ModelFacts:
    """What the settings depend on in a model. `quantized`: its checkpoint says so itself.
    `random_weights`: vLLM makes them up."""

    path: str
    max_model_len: int
    quantized: bool = False
    random_weights: bool = False


@dataclass(frozen=True)
class EngineSettings:
    """`arguments`: vLLM's AsyncEngineArgs. `user_fixed`: those that the user chose, which no fallback
    step changes. `scenarios` holds every scenario."""

    preset: str
    arguments: VllmArguments
    environment: Mapping[str, str]
    scenarios: Mapping[str, ScenarioSettings]
    user_fixed: frozenset[str]


def engine_settings(
    config: Config,
    preset: Preset,
    tuned: Tuned,
    model: ModelFacts,
    on_gpu: bool,
    cpu_threads: int,
    oom_overrides: Sequence[FallbackStep] = (),
    ceilings: Mapping[str, int] | None = None,
    scales: Path | None = None,
) -> EngineSettings:
    """`oom_overrides`: the fallback steps taken so far, in order. `ceilings`: arguments that a search
    raises to have headroom while it loads once; the scenarios then keep the limits they would have had.
    `scales`: the run's static scales, which take the place of dynamic FP8."""
    base = apply_tuned(preset, tuned)
    own = (base.max_num_seqs, base.max_num_batched_tokens) if ceilings else (None, None)
    arguments = _arguments(config, {**base.engine, **(ceilings or {})}, model, on_gpu)
    for step in oom_overrides:
        arguments = step.apply(arguments)
    static = {records.VARIABLE: str(scales)} if scales else {}
    if scales:
        arguments = {**arguments, "quantization": records.QUANTIZATION}
    # On a CPU vLLM falls to one thread unless told how many.
    threads = {} if on_gpu else {"OMP_NUM_THREADS": str(cpu_threads)}
    return EngineSettings(
        preset=preset.name,
        arguments=arguments,
        environment={**threads, **preset.environment, **static},
        scenarios={
            name: _limited(base.scenarios.get(name, ScenarioSettings()), *own) for name in rules.SCENARIOS
        },
        user_fixed=frozenset(config.engine_args).union(_by_user(config)),
    )


def quantization_of(config: Config, preset: Preset) -> str | None:
    """How 16-bit weights are quantised while they load."""
    value = {**preset.engine, **_by_user(config), **config.engine_args}.get("quantization")
    return None if value is None else str(value)


def apply_tuned(preset: Preset, tuned: Tuned) -> Preset:
    """The preset with what tuning found over it."""
    limits = {
        name: replace(
            preset.scenarios.get(name, ScenarioSettings()), **{k: v for k, v in values.items() if k in LIMITS}
        )
        for name, values in tuned.scenarios.items()
    }
    return replace(preset, engine={**preset.engine, **tuned.engine}, scenarios={**preset.scenarios, **limits})


def _limited(
    given: ScenarioSettings, max_num_seqs: int | None, prefill_tokens: int | None
) -> ScenarioSettings:
    """With these limits where a scenario has none of its own."""
    return replace(
        given,
        max_num_seqs=given.max_num_seqs or max_num_seqs,
        prefill_tokens=given.prefill_tokens or prefill_tokens,
    )


def _by_user(config: Config) -> dict[str, object]:
    """vLLM's arguments that have a setting of their own, where the user set it."""
    named = {
        "dtype": None if config.dtype == AUTO else config.dtype,
        "quantization": None if config.quantization == AUTO else config.quantization,
        "kv_cache_dtype": None if config.kv_cache_dtype == AUTO else config.kv_cache_dtype,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "tensor_parallel_size": config.tensor_parallel,
    }
    return {name: value for name, value in named.items() if value is not None}


def _arguments(config: Config, engine: VllmArguments, model: ModelFacts, on_gpu: bool) -> VllmArguments:
    """vLLM's AsyncEngineArgs: what the rules fix, over the user's settings, over `engine`."""
    scheduler = "CappedAsyncScheduler" if on_gpu else "CappedScheduler"
    fixed = {
        "model": model.path,
        "max_model_len": model.max_model_len,
        # policy: no KV cache reuse across queries; vLLM's default is on.
        "enable_prefix_caching": False,
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "scheduler_cls": f"mlperf_llama.engine.scheduler.{scheduler}",
        "seed": config.seed,
    }
    clash = sorted(set(config.engine_args) & set(fixed))
    if clash:
        raise UsageError(f"ENGINE_ARGS: {', '.join(clash)} cannot be set; the benchmark's rules fix it")
    if model.quantized:
        engine = {name: value for name, value in engine.items() if name != "quantization"}
    random = {"load_format": "dummy"} if model.random_weights else {}
    arguments = {"dtype": "auto", **engine, **_by_user(config), **config.engine_args, **fixed, **random}
    return hopper.with_extension(arguments)
