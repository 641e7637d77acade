"""An FP8 checkpoint of a Llama model, made by the benchmark's rules; vLLM loads it as `fp8`.

Weights get one scale a matrix. Inputs get fixed scales from the published calibration data
where it is at hand (policy: 1,000 samples of CNN/DailyMail's training part), else vLLM works
them out as it runs, from no data at all. What was done stands in `quantization.json` beside
the weights.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..records.files import write_text
from ..sources.model import checkpoint, shape
from . import weights

log = logging.getLogger(__name__)

RECORD = "quantization.json"
# Weights are written anew; an index of the old ones would mislead.
LEFT_BEHIND = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pth")
Tell = Callable[[str], None]


def quantize(
    source: Path, dest: Path, prompts: Sequence[Sequence[int]] | None, about: Mapping[str, Any], tell: Tell
) -> Path:
    """Write `dest` from `source`. `prompts`: calibration token ids, or None for no data at all.

    `about` says where the prompts came from. UsageError: not a whole Llama checkpoint, already
    quantised, or `dest` is there.
    """
    problem = checkpoint.problem(source)
    config = {} if problem else json.loads((source / "config.json").read_text(encoding="utf-8"))
    if config.get("quantization_config"):
        problem = f"{source}: expected 16-bit weights, found quantised ones"
    if dest.exists():
        problem = f"{dest}: expected a new folder, found one"
    if problem:
        raise UsageError(problem)
    scales: Mapping[str, float] = {}
    if prompts is not None:
        from . import calibrate

        scales = calibrate.scales(source, prompts, tell)
    work = dest.with_name(f".{dest.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
    weights.write(source, work, scales, tell)
    scheme = "static" if prompts is not None else "dynamic"
    config["quantization_config"] = {**shape.FP8_STATIC, "activation_scheme": scheme}
    write_text(work / "config.json", json.dumps(config, indent=2) + "\n")
    record = {
        "schema_version": 1,
        "format": "E4M3, one scale a weight matrix; output matrix and embedding in 16 bits",
        "activation_scheme": config["quantization_config"]["activation_scheme"],
        "source": str(source),
        "source_sha256": {name: weights.sha256(source / name) for name in checkpoint.shard_names(source)},
        "calibration": {"samples": len(prompts), **about} if prompts is not None else None,
    }
    write_text(work / RECORD, json.dumps(record, indent=2) + "\n")
    work.rename(dest)
    return dest
