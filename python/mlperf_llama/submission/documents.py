"""The words of a submission: README per scenario, calibration document, measurements."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from .. import rules
from ..records.schema import Check
from ..settings import BY_NAME

Json = dict[str, Any]
WATERMARK = "SELFTEST: made by the scripted fake engine to test the packing. Not a measurement."
# Settings that make a run what it is; what stands at its default is left out, but for the first two.
REPEATED = (
    "round", "category", "dataset_source", "model", "engine", "preset", "dtype", "quantization",
    "kv_cache_dtype", "max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "tensor_parallel",
    "engine_args", "fake", "target_qps", "expected_latency_ms", "seed",
)  # fmt: skip


def command(config: Mapping[str, Any], scenarios: Iterable[str]) -> list[str]:
    """The make command that makes this run again, one word an item."""
    words = ["make", "run", f"SCENARIO={','.join(scenarios)}", "MODE=all"]
    for key in REPEATED:
        setting, value = BY_NAME[key.upper()], config.get(key)
        if key in REPEATED[:2] or value not in (None, setting.read(setting.default)):
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            words.append(f"{setting.name}={text}")
    return words


def is_quantized(settings: Mapping[str, Any]) -> bool:
    return settings.get("quantization") not in (None, "", "auto", "none")


def weight_data_types(settings: Mapping[str, Any]) -> str:
    """As the measurements file names them: the quantisation, or the floating-point type."""
    if is_quantized(settings):
        return str(settings["quantization"])
    names = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
    return names.get(str(settings.get("dtype")), str(settings.get("dtype") or "not recorded"))


def measurements(settings: Mapping[str, Any], model: Mapping[str, Any], watermark: bool) -> Json:
    """measurements.json: five keys, none empty."""
    quantized = is_quantized(settings)
    source, revision = model.get("source"), model.get("revision")
    name = rules.MODEL_ID if model.get("eligible") else f"{source} {model.get('path', '')}".strip()
    data: Json = {
        "input_data_types": "int32",
        "retraining": "N/A",
        "starting_weights_filename": f"{name} {revision or ''}".strip(),
        "weight_data_types": weight_data_types(settings),
        "weight_transformations": f"quantized to {settings['quantization']}" if quantized else "none",
    }
    return {**data, "notes": WATERMARK} if watermark else data


def calibration(settings: Mapping[str, Any], model: Mapping[str, Any], watermark: bool) -> str:
    """The calibration document the closed division asks for."""
    kv_cache = settings.get("kv_cache_dtype") or "auto"
    details = model.get("details") or {}
    if is_quantized(settings):
        used = details.get("calibration") or "none: scales are computed at load and at run time"
        weights = f"Weights are quantised to {settings['quantization']}. Calibration data: {used}."
    else:
        weights = f"Weights are used as published, in {weight_data_types(settings)}. Nothing is calibrated."
    cache = (
        "The KV cache has the activations' type." if kv_cache == "auto" else f"The KV cache is {kv_cache}."
    )
    lines = ["# Calibration and quantisation", "", weights, "", cache, ""]
    return "\n".join(([WATERMARK, ""] if watermark else []) + lines)


def readme(
    benchmark: str,
    scenario: str,
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
    settings: Mapping[str, Any],
    notes: Iterable[str],
) -> str:
    """README.md of one scenario: what it is and how to make it again."""
    dataset, model = provenance.get("dataset") or {}, provenance.get("model") or {}
    lines = [f"# {benchmark}, {scenario}", "", *notes, ""]
    lines += [
        f"Round {config.get('round')}, LoadGen {provenance.get('loadgen_version')}.",
        f"Model: {model.get('source')}, revision {model.get('revision')}, SHA-256 {model.get('sha256')}.",
        f"Dataset: {dataset.get('source')}, {provenance.get('samples')} samples, "
        f"SHA-256 {dataset.get('sha256')}.",
        "",
        "To run it again, from the source tree beside `results`:",
        "",
        "    " + shlex.join(command(config, [scenario])),
        "",
        "Engine settings:",
        "",
        *(f"- {key}: {value}" for key, value in sorted(settings.items())),
        "",
    ]
    return "\n".join(lines)


def validation_log(checks: Mapping[str, Iterable[Check]]) -> str:
    """compliance_validation.log: every check of every run folder, passed or not."""
    lines = []
    for name, found in checks.items():
        lines.append(f"run {name}")
        lines += [f"  {'pass' if c.passed else 'FAIL'}  {c.name}: {c.detail}" for c in found]
    return "\n".join(lines) + "\n"
