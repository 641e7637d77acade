"""Llama-3.1-8B's shape and the benchmark's prompt lengths, without weights or articles.

Speed is that of the real model; the text is not. Everything measured with this is labelled so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# config.json of meta-llama/Llama-3.1-8B-Instruct.
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
        "rope_type": "llama3",
    },
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009],
}
# Lengths of 100 real prompts in tokens: mean, log-sd; shortest and longest (the validation set's).
MEAN, LOG_SD, LOW, HIGH = 895.0, 0.48, 80, 2540


def model_dir(folder: Path, quantization: str | None, changes: Mapping[str, Any]) -> Path:
    """A folder with config.json alone, for `load_format="dummy"`; `changes` to try things on a CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**CONFIG, **changes}
    if quantization == "fp8-static":
        config["quantization_config"] = {
            "quant_method": "fp8",
            "activation_scheme": "static",
            "ignored_layers": ["lm_head"],
        }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def lengths(count: int, seed: int = 7) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Log-normal lengths, clipped, with the location set so that the mean is MEAN."""
    draws = np.random.default_rng(seed).standard_normal(count)
    low, high = 3.0, 9.0
    for _ in range(60):
        middle = (low + high) / 2
        found = np.clip(np.exp(middle + LOG_SD * draws), LOW, HIGH)
        low, high = (middle, high) if found.mean() < MEAN else (low, middle)
    return np.rint(found).astype(np.int32)


class Samples:
    """Random prompts with those lengths, as the driver wants its samples."""

    def __init__(self, count: int, seed: int = 11) -> None:
        self.count = count
        self.lengths = lengths(count)
        draw = np.random.default_rng(seed)
        self._prompts: list[list[int]] = [draw.integers(1000, 127000, n).tolist() for n in self.lengths]

    def prompt(self, index: int) -> Sequence[int]:
        return self._prompts[index]
