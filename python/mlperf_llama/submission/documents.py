"""The documents of a submission: README per scenario, calibration document, measurements."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping

from .. import rules
from ..config import Config
from ..records import scales
from ..records.files import JsonObject
from ..records.schema import Check, Provenance, Provided
from ..settings import BY_NAME

WATERMARK = "SELFTEST: made by the scripted fake engine to test the packing. Not a measurement."
# Settings that make a run what it is; what stands at its default is left out, but for the first two.
REPEATED = (
    "round", "category", "dataset_source", "model", "engine", "preset", "dtype", "quantization",
    "scales", "calibration", "kv_cache_dtype", "max_num_seqs", "max_num_batched_tokens",
    "gpu_memory_utilization", "tensor_parallel", "engine_args", "fake", "target_qps",
    "expected_latency_ms", "seed",
)  # fmt: skip


def command(config: Config, scenarios: Iterable[str]) -> list[str]:
    """The make command that makes this run again, one argument an item."""
    arguments = ["make", "run", f"SCENARIO={','.join(scenarios)}", "MODE=all"]
    for key in REPEATED:
        setting, value = BY_NAME[key.upper()], getattr(config, key)
        if key in REPEATED[:2] or value not in (None, setting.read(setting.default)):
            text = json.dumps(value) if isinstance(value, dict) else str(value)
            arguments.append(f"{setting.name}={text}")
    return arguments


def is_quantized(settings: Mapping[str, object]) -> bool:
    return settings.get("quantization") not in (None, "", "auto", "none")


def quantization(settings: Mapping[str, object]) -> str:
    """The weights' own: that of static scales is named after where the scales come from."""
    name = str(settings["quantization"])
    return "fp8" if name == scales.QUANTIZATION else name


def weight_data_types(settings: Mapping[str, object]) -> str:
    """As the measurements file names them: the quantisation, or the floating-point type."""
    if is_quantized(settings):
        return quantization(settings)
    names = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
    return names.get(str(settings.get("dtype")), str(settings.get("dtype") or "not recorded"))


def measurements(settings: Mapping[str, object], model: Provided, watermark: bool) -> JsonObject:
    """measurements.json: five keys, none empty."""
    quantized = is_quantized(settings)
    name = rules.MODEL_ID if model.eligible else f"{model.source} {model.path or ''}".strip()
    data: JsonObject = {
        "input_data_types": "int32",
        "retraining": "N/A",
        "starting_weights_filename": f"{name} {model.revision or ''}".strip(),
        "weight_data_types": weight_data_types(settings),
        "weight_transformations": f"quantized to {quantization(settings)}" if quantized else "none",
    }
    return {**data, "notes": WATERMARK} if watermark else data


def readme(
    benchmark: str,
    scenario: str,
    config: Config,
    provenance: Provenance,
    settings: Mapping[str, object],
    notes: Iterable[str],
) -> str:
    """README.md of one scenario: what it is and how to make it again."""
    dataset, model = provenance.dataset or Provided(), provenance.model or Provided()
    lines = [f"# {benchmark}, {scenario}", "", *notes, ""]
    lines += [
        f"Round {config.round}, LoadGen {provenance.loadgen_version}.",
        f"Model: {model.source}, revision {model.revision}, SHA-256 {model.sha256}.",
        f"Dataset: {dataset.source}, {provenance.samples} samples, SHA-256 {dataset.sha256}.",
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
    for name, own in checks.items():
        lines.append(f"run {name}")
        lines += [f"  {'pass' if c.passed else 'FAIL'}  {c.name}: {c.detail}" for c in own]
    return "\n".join(lines) + "\n"
