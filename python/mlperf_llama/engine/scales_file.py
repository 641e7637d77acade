"""The file of static FP8 scales that official weights are loaded with (static_fp8.py).

A JSON object whose `scales` holds numbers by the name that each has in an FP8 checkpoint. vLLM's processes
know the file by an environment variable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..records.files import object_or_empty, read_object

# vLLM's `quantization` for it, and that which it stands in for.
NAME, WITHOUT_FILE = "fp8-scales", "fp8"
VARIABLE = "MLPERF_LLAMA_SCALES"
BLOCKS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
CACHE = ("k_scale", "v_scale", "q_scale")
# Normal numbers of float32.
LEAST, MOST = 2.0**-126, 2.0**127


def names(layers: int) -> Iterator[str]:
    """Of all scales that a Llama model of so many layers has."""
    for layer in range(layers):
        for block, linears in BLOCKS.items():
            for linear in linears:
                yield f"model.layers.{layer}.{block}.{linear}.input_scale"
        for scale in CACHE:
            yield f"model.layers.{layer}.self_attn.{scale}"


def path_in(environment: Mapping[str, str]) -> Path:
    """Of the file that vLLM's processes are to use."""
    if not environment.get(VARIABLE):
        raise UsageError(f"quantization={NAME}: expected {VARIABLE} to name a file of scales, found nothing")
    return Path(environment[VARIABLE])


def read(path: Path) -> dict[str, float]:
    """The scales of a file. UsageError: there is none, or it holds something else."""
    if not path.is_file():
        raise UsageError(f"{path}: expected a file of FP8 scales, found none; without one use {WITHOUT_FILE}")
    scales = read_object(path).get("scales")
    if not isinstance(scales, dict) or not scales:
        raise UsageError(f"{path}: expected `scales`, numbers by name, found {scales!r:.40}")
    for name, value in scales.items():
        # True is an int.
        if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST <= value <= MOST:
            raise UsageError(f"{path}: {name}: expected a positive number, found {value!r:.40}")
    return {name: float(value) for name, value in scales.items()}


def check(path: Path, model: Path) -> None:
    """UsageError where the scales of a file are not those of a model, a folder with 16-bit weights."""
    scales = read(path)
    config = object_or_empty(model / "config.json")
    if config.get("quantization_config"):
        raise UsageError(f"{model}: expected 16-bit weights for the scales of {path}, found quantised ones")
    layers = config.get("num_hidden_layers")
    if not isinstance(layers, int):
        raise UsageError(f"{model}/config.json: expected num_hidden_layers, found {layers!r}")
    wanted = dict.fromkeys(names(layers))
    if missing := next((name for name in wanted if name not in scales), None):
        raise UsageError(f"{path}: expected {missing}, found none: it is not of {model}; make it again")
    if more := next((name for name in scales if name not in wanted), None):
        raise UsageError(f"{path}: found {more}, which {model} lacks: it is not of it; make it again")


def with_scales(arguments: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """vLLM's arguments and environment for FP8 with the scales of a file; other quantisations stay."""
    if arguments.get("quantization") != WITHOUT_FILE:
        return dict(arguments), {}
    return {**arguments, "quantization": NAME}, {VARIABLE: str(path)}
