"""Checks of what ran: the engine's arguments, its resolved configuration, preset and extension."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ..engine import allowed
from ..records.schema import Check, EngineLoad, EngineLoads
from ..rules import MODEL_SHAPE
from .check import check, first
from .evidence import Evidence

FIX = "run again with ENGINE_ARGS and PRESET that hold only what docs/settings.md allows"
# Of vLLM's resolved configuration: what must be switched off.
OFF = ("speculative_config", "lora_config", "kv_transfer_config", "ec_transfer_config")
# Of the model's: config.json's name -> the benchmark's shape.
SHAPE = {
    "num_hidden_layers": MODEL_SHAPE.layers,
    "hidden_size": MODEL_SHAPE.hidden,
    "num_attention_heads": MODEL_SHAPE.heads,
    "num_key_value_heads": MODEL_SHAPE.kv_heads,
    "intermediate_size": MODEL_SHAPE.intermediate,
    "vocab_size": MODEL_SHAPE.vocabulary,
}
# What config.json may make of the same layers: another value than the official file's, or another attention.
OTHERWISE: Mapping[str, tuple[object, ...]] = {
    "attention_bias": (None, False),
    "hidden_act": (None, "silu"),
    "layer_types": (None, ["full_attention"] * MODEL_SHAPE.layers),
    "logit_scale": (None, 1.0),
    "mlp_bias": (None, False),
    "sliding_window": (None,),
    "tie_word_embeddings": (None, False),
}


def checks(evidence: Evidence) -> list[Check]:
    """One check for each kind of setting, over every time that the engine was loaded."""
    loads = evidence.engine_loads.loads
    model = evidence.provenance.model

    def arguments(load: EngineLoad) -> list[str]:
        faults = allowed.faults(load.arguments)
        served = load.arguments.get("model")
        if served != (model and model.path):
            faults.append(f"model={served}: the run's model is {model and model.path}")
        return faults

    return [
        _every("engine_arguments", loads, arguments, "arguments that change speed alone"),
        _every("engine_resolved", loads, _resolved, "nothing reused or replaced; the model's own shape"),
        _every("engine_extension", loads, _extension, "none, or one of those that this package ships"),
        _every("preset", loads, _preset, "recorded with its content and its hash"),
    ]


def _every(
    name: str, loads: Iterable[EngineLoad], faults_of: Callable[[EngineLoad], list[str]], good: str
) -> Check:
    loads = tuple(loads)
    faults = list(dict.fromkeys(fault for load in loads for fault in faults_of(load)))
    if not any(load.arguments for load in loads):
        return Check(name, False, f"{EngineLoads.FILE} holds no engine's arguments", "run with ENGINE=vllm")
    return check(name, not faults, first(faults) or f"{good}; loaded {len(loads)} times", FIX)


def _resolved(load: EngineLoad) -> list[str]:
    if not load.resolved:
        return ["the resolved configuration is not recorded"]
    faults = [f"{name} is set" for name in OFF if load.resolved.get(name)]
    model = _object(load.resolved, "model_config")
    if model.get("logits_processors"):
        faults.append(f"logits_processors={model['logits_processors']}")
    shape = _object(model, "hf_config")
    faults += [
        f"{key}={shape.get(key)}, the benchmark's model has {value}"
        for key, value in SHAPE.items()
        if shape.get(key) != value
    ]
    return faults + [
        f"{key}={shape[key]}, the benchmark's model has none such"
        for key, allowed_values in OTHERWISE.items()
        if shape.get(key) not in allowed_values
    ]


def _object(data: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = data.get(name)
    return value if isinstance(value, Mapping) else {}


def _extension(load: EngineLoad) -> list[str]:
    asked = str(load.arguments.get("worker_extension_cls") or "")
    recorded = load.extension.name if load.extension else ""
    faults = [] if recorded == asked else [f"recorded {recorded or 'none'}, given {asked or 'none'}"]
    if asked and asked not in allowed.EXTENSIONS:
        faults.append(f"{asked} is not shipped here")
    return faults


def _preset(load: EngineLoad) -> list[str]:
    return [] if load.preset and load.preset.sha256 else ["the preset is not recorded"]
