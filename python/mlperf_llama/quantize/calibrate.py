"""Fixed scales of activations and of the KV cache: the largest values in calibration prompts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .weights import FP8_MAX

LINEAR = re.compile(r".*\.layers\.\d+\.(?:self_attn|mlp)\.\w+_proj")
REPORT_EVERY = 50


class Largest:
    """Largest absolute values by name, gathered by hooks."""

    def __init__(self, head_size: int) -> None:
        self.values: dict[str, float] = {}
        self._head_size = head_size

    def update(self, name: str, value: torch.Tensor) -> None:
        self.values[name] = max(self.values.get(name, 0.0), float(value))

    def linear(self, name: str, module: Any, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.update(f"{name}.input_scale", inputs[0].abs().max())
        block = name.rpartition(".")[0]
        if name.endswith(".v_proj"):
            self.update(f"{block}.v_scale", output.abs().max())
        if name.endswith(".k_proj"):
            # The rotation turns a pair of values, so what the cache holds is at most the pair's length.
            low, high = output.unflatten(-1, (-1, 2, self._head_size // 2)).float().unbind(-2)
            self.update(f"{block}.k_scale", torch.hypot(low, high).max())


def scales(
    model_dir: Path, prompts: Sequence[Sequence[int]], progress: Callable[[str], None]
) -> dict[str, float]:
    """Scale by the tensor's name in an FP8 checkpoint; on a GPU where there is one."""
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype="auto").to(device).eval()
    config = model.config
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    largest = Largest(head_size)
    for name, module in model.named_modules():
        if LINEAR.fullmatch(name):
            module.register_forward_hook(partial(largest.linear, name))
    with torch.inference_mode():
        for number, prompt in enumerate(prompts, 1):
            model.model(torch.tensor([list(prompt)], device=device), use_cache=False)
            if number % REPORT_EVERY == 0 or number == len(prompts):
                progress(f"{number} of {len(prompts)} calibration prompts")
    return {name: max(value, 1e-12) / FP8_MAX for name, value in largest.values.items()}
