"""An FP8 checkpoint written from a 16-bit one, whole or not at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..errors import UsageError
from ..records.files import atomic_folder, digest, read_object, write_text
from ..sources.model import checkpoint, shape
from . import record, weights
from .record import Calibration, Quantization

# Weights are written anew; an index of the old ones would mislead.
LEFT_OUT = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pth")


def write(
    source: Path,
    dest: Path,
    prompts: Sequence[Sequence[int]] | None,
    calibration: Calibration | None,
    progress: Callable[[str], None],
) -> Path:
    """Write `dest` from `source`. `prompts`: calibration token ids, or None for no data at all.

    `calibration` says where the prompts came from. UsageError: not a whole Llama checkpoint,
    already quantised, or `dest` is there.
    """
    if problem := _problem(source, dest):
        raise UsageError(problem)
    scales: Mapping[str, float] = {}
    if prompts is not None:
        from . import calibrate

        scales = calibrate.measure(
            source, prompts, lambda done, total: progress(f"{done} of {total} calibration prompts")
        ).scales
    with atomic_folder(dest) as work:
        shutil.copytree(source, work, ignore=shutil.ignore_patterns(*LEFT_OUT), dirs_exist_ok=True)
        weights.write(source, work, scales, progress)
        scheme = "static" if prompts is not None else "dynamic"
        config = read_object(source / "config.json")
        config["quantization_config"] = {**shape.FP8_STATIC, "activation_scheme": scheme}
        write_text(work / "config.json", json.dumps(config, indent=2) + "\n")
        sha256 = {name: digest(source / name) for name in checkpoint.shard_names(source)}
        record.write(Quantization(scheme, str(source), sha256, calibration), work)
    return dest


def _problem(source: Path, dest: Path) -> str | None:
    """Why `dest` cannot be made from `source`; None where it can."""
    if problem := checkpoint.problem(source):
        return problem
    if read_object(source / "config.json").get("quantization_config"):
        return f"{source}: expected 16-bit weights, found quantised ones"
    return f"{dest}: expected a new folder, found one" if dest.exists() else None
