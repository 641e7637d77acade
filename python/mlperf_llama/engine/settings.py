"""Engine settings: a preset for this machine, with the user's own settings over it.

A preset is a TOML file in presets/: `[engine]` holds vLLM's arguments, `[environment]`
variables vLLM reads, and a table a scenario its limits under load and expected speed.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .. import rules
from ..config import Config
from ..errors import UsageError
from ..machine.gpu_table import find_gpu
from ..records.schema import Gpu
from ..settings import AUTO
from .pacing import Pacing

PRESETS = Path(__file__).parent / "presets"
CPU, GENERIC = "cpu", "gpu"
PACING = tuple(known.name for known in fields(Pacing))


@dataclass(frozen=True)
class Preset:
    """One preset file. `scenarios` maps a scenario to its limits and speeds."""

    name: str
    engine: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    scenarios: dict[str, dict[str, Any]] = field(default_factory=dict)

    def limits(self, scenario: str) -> tuple[int | None, int | None]:
        """(max_num_seqs, prefill_tokens) of a scenario; None leaves the engine's ceiling."""
        table = self.scenarios.get(scenario, {})
        return table.get("max_num_seqs"), table.get("prefill_tokens")

    def pacing(self, scenario: str) -> dict[str, Any]:
        """Which steps prompts may enter: fields of Pacing."""
        table = self.scenarios.get(scenario, {})
        return {key: table[key] for key in PACING if key in table}


def names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def load_preset(name: str) -> Preset:
    """A shipped preset by name, or a TOML file by path."""
    path = Path(name) if name.endswith(".toml") else PRESETS / f"{name}.toml"
    if not path.is_file():
        raise UsageError(f"PRESET: expected one of {', '.join(names())} or a .toml file, found {name}")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"PRESET {path}: expected TOML, could not read it: {error}") from None
    scenarios = {s: data.pop(s) for s in rules.SCENARIOS if s in data}
    engine, environment = data.pop("engine", {}), data.pop("environment", {})
    if data:
        raise UsageError(f"PRESET {path}: unknown table {next(iter(data))}; known: engine, environment")
    words = {k: str(v) for k, v in environment.items()}
    return Preset(path.stem, engine, words, scenarios)


def detect(gpu: Gpu | None) -> str:
    """The preset that the table of GPUs names; cpu without a GPU."""
    if gpu is None:
        return CPU
    spec = find_gpu(gpu)
    return spec.preset or GENERIC if spec else GENERIC


def choose(config: Config, gpu: Gpu | None) -> Preset:
    """The user's preset, else the GPU's, else one worked out from what the GPU has."""
    name = detect(gpu) if config.preset == AUTO else config.preset
    if name != GENERIC:
        return load_preset(name)
    from . import derive

    derived = derive.settings(derive.card_of(gpu or Gpu()))
    return Preset(GENERIC, derived.engine, {}, derived.scenarios)


def fixed_by_user(config: Config) -> set[str]:
    """vLLM's arguments that the user chose."""
    return {k for k, v in _chosen(config).items() if v is not None} | set(config.engine_args)


def _chosen(config: Config) -> dict[str, Any]:
    return {
        "dtype": None if config.dtype == AUTO else config.dtype,
        "quantization": None if config.quantization == AUTO else config.quantization,
        "kv_cache_dtype": None if config.kv_cache_dtype == AUTO else config.kv_cache_dtype,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "gpu_memory_utilization": config.gpu_memory_utilization,
        "tensor_parallel_size": config.tensor_parallel,
    }


def vllm_arguments(
    config: Config, preset: Preset, model_dir: str, max_model_len: int, use_async: bool
) -> dict[str, Any]:
    """vLLM's AsyncEngineArgs: what the rules fix, over the user's settings, over the preset."""
    scheduler = "CappedAsyncScheduler" if use_async else "CappedScheduler"
    fixed = {
        "model": model_dir,
        "max_model_len": max_model_len,
        # policy: no KV cache reuse across queries; vLLM's default is on.
        "enable_prefix_caching": False,
        "skip_tokenizer_init": True,
        "disable_log_stats": True,
        "scheduler_cls": f"mlperf_llama.engine.scheduler.{scheduler}",
        "seed": config.seed,
    }
    given = {k: v for k, v in _chosen(config).items() if v is not None}
    arguments = {"dtype": "auto", **preset.engine, **given, **config.engine_args}
    clash = sorted(set(config.engine_args) & set(fixed))
    if clash:
        raise UsageError(f"ENGINE_ARGS: {', '.join(clash)} cannot be set; the benchmark's rules fix it")
    return {**arguments, **fixed}


def environment(preset: Preset, on_cpu: bool) -> dict[str, str]:
    """Variables for vLLM. On a CPU it falls to one thread unless told how many."""
    threads = {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))} if on_cpu else {}
    return {**threads, **preset.environment}
