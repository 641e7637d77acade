"""Several run folders are one submission only where one machine and one engine made them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..records import codec
from ..records.schema import Check, Gpu, LoadedEngine, System
from ..verdict.check import check, first
from ..verdict.evidence import Evidence

# What says which card of several it was, or where its figures come from, and not what kind.
GPU_OWN = ("index", "uuid", "source")
# How the engine schedules: that each scenario may have its own way. Everything else is the engine itself.
SCHEDULING = (
    "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "async_scheduling", "enforce_eager",
)  # fmt: skip
# Settings that make the engine what it is; what vLLM made of the first five also stands in its own settings.
ENGINE_SETTINGS = (
    "dtype", "quantization", "kv_cache_dtype", "tensor_parallel", "engine", "ignore_eos", "seed",
)  # fmt: skip
# Memory that the kernel counts differs a little from start to start.
MEMORY_STEP_GIB = 0.5
SHOWN = 60


def one_machine(folders: Sequence[Evidence]) -> Check:
    """Maker, processors, memory, disks, network, accelerators with their driver, and software."""
    parts = {e.run.path.name: _machine(e.system) for e in folders}
    return _check("one_machine", parts, "pack runs of one machine, with the same software on it")


def one_engine(folders: Sequence[Evidence]) -> Check:
    """Name, version, quantisation, types, seed: all but how each scenario is scheduled."""
    parts = {name: engine for e in folders for name, engine in _engines(e).items()}
    return _check("one_engine", parts, "run the scenarios with the same engine settings, then pack them")


def _machine(system: System) -> dict[str, object]:
    total_gib, limit_gib = system.memory.total_gib, system.memory.limit_gib
    return {
        "maker": (system.machine.maker, system.machine.product),
        "cpu": codec.to_json(system.cpu),
        "memory": (total_gib and round(total_gib / MEMORY_STEP_GIB) * MEMORY_STEP_GIB, limit_gib),
        "operating system": codec.to_json(system.os),
        "storage": codec.to_json(system.storage),
        "network": codec.to_json(system.network),
        "accelerators": [_gpu(gpu) for gpu in system.gpus],
        "Python": system.python.version,
        **{f"package {name}": version for name, version in system.packages.items()},
    }


def _gpu(gpu: Gpu) -> dict[str, object]:
    return {key: value for key, value in codec.to_json(gpu).items() if key not in GPU_OWN}


def _engines(evidence: Evidence) -> dict[str, dict[str, object]]:
    """The engine as loaded last, and as each scenario's performance run used it."""
    engine, name = evidence.results.engine or LoadedEngine(), evidence.run.path.name
    chosen = {k: getattr(evidence.config, k, None) for k in ENGINE_SETTINGS}
    common = {"name": engine.name, "version": engine.version, **chosen}
    used = {name: engine.settings}
    for scenario in evidence.scenarios:
        if settings := (scenario.recorded.engine_settings or {}).get("performance"):
            used[f"{name} {scenario.name}"] = settings
    return {
        where: {**common, **{k: v for k, v in settings.items() if k not in SCHEDULING}}
        for where, settings in used.items()
    }


def _check(name: str, parts: Mapping[str, Mapping[str, object]], fix: str) -> Check:
    keys = dict.fromkeys(key for own in parts.values() for key in own)
    faults = [fault for key in keys if (fault := _difference(key, parts))]
    return check(name, not faults, first(faults) or f"the same in {', '.join(parts)}", fix)


def _difference(key: str, parts: Mapping[str, Mapping[str, object]]) -> str:
    """Two folders and what each says, where they differ; empty where all agree."""
    (first, reference), *others = ((name, own.get(key)) for name, own in parts.items())
    other = next(((name, value) for name, value in others if value != reference), None)
    if other is None:
        return ""
    return f"{key}: {first} {_short(reference, other[1])}, {other[0]} {_short(other[1], reference)}"


def _short(value: object, other: object) -> str:
    """A value; of two objects, or lists of them, what differs alone."""
    if isinstance(value, list) and isinstance(other, list) and len(value) == len(other):
        pairs = [(v, o) for v, o in zip(value, other, strict=True) if v != o]
        value, other = pairs[0] if pairs else (value, other)
    if isinstance(value, dict) and isinstance(other, dict):
        value = {k: v for k, v in value.items() if other.get(k) != v}
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
