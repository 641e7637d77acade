"""Llama-3.1-8B's shape and the benchmark's prompt lengths, without weights or articles.

Speed is that of the real model; the text is not. Everything measured with this is labelled so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlperf_llama.sources.model import shape

# Lengths of 100 real prompts in tokens: mean, log-sd; shortest and longest (the validation set's).
MEAN, LOG_SD, LOW, HIGH = 895.0, 0.48, 80, 2540


def model_dir(folder: Path, quantization: str | None, changes: Mapping[str, Any]) -> Path:
    """A folder with config.json alone, for `load_format="dummy"`; `changes` to try things on a CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**shape.CONFIG, **changes}
    if quantization == "fp8-static":
        config["quantization_config"] = shape.FP8_STATIC
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def lengths(count: int, seed: int = 7) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Log-normal lengths, clipped, with the location set so that the mean is MEAN."""
    draws = np.random.default_rng(seed).standard_normal(count)
    low, high = 3.0, 9.0
    for _ in range(60):
        middle = (low + high) / 2
        clipped = np.clip(np.exp(middle + LOG_SD * draws), LOW, HIGH)
        low, high = (middle, high) if clipped.mean() < MEAN else (low, middle)
    rounded: np.ndarray[Any, np.dtype[np.int32]] = np.rint(clipped).astype(np.int32)
    return rounded


class Samples:
    """Random prompts with those lengths, as the driver wants its samples."""

    def __init__(self, count: int, seed: int = 11) -> None:
        self.count = count
        self.lengths = lengths(count)
        draw = np.random.default_rng(seed)
        self._prompts: list[list[int]] = [draw.integers(1000, 127000, n).tolist() for n in self.lengths]

    def prompt(self, index: int) -> Sequence[int]:
        return self._prompts[index]
