"""Fixed scales of activations, queries and KV cache: the largest values in calibration prompts.

Usage: python -m mlperf_llama.quantize.calibrate FOLDER. A process of its own, so that a GPU's memory is free
again when it ends: it reads FOLDER/request.json, counts in FOLDER/done, and leaves FOLDER/answer.json.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..records import codec, scales
from ..records.files import read_object, write_text

if TYPE_CHECKING:
    from transformers import PretrainedConfig

LINEAR = re.compile(r".*\.layers\.\d+\.(?:self_attn|mlp)\.\w+_proj")
REPORT_EVERY = 50
# Linear layers that read the same input as another.
SAME_INPUT = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
# Files of the child's folder.
REQUEST, DONE, ANSWER = "request.json", "done", "answer.json"

# Called with prompts done and in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Request:
    """`prompts`: token ids."""

    model_dir: str
    prompts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Answer:
    """`device`: the GPU's name, or cpu. `scales`: by the tensor's name in an FP8 checkpoint."""

    torch: str
    device: str
    scales: dict[str, float]


class Largest:
    """Largest absolute values by name, gathered by hooks on the device: nothing waits for a value."""

    def __init__(self, head_size: int) -> None:
        self._values: dict[str, torch.Tensor] = {}
        self._head_size = head_size

    def update(self, name: str, value: torch.Tensor) -> None:
        known = self._values.get(name)
        self._values[name] = value.float() if known is None else torch.maximum(known, value.float())

    def linear(
        self, name: str, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        block, _, part = name.rpartition(".")
        if part not in SAME_INPUT:
            self.update(f"{name}.input_scale", inputs[0].abs().max())
        if part == "v_proj":
            self.update(f"{block}.v_scale", output.abs().max())
        if part in ("q_proj", "k_proj"):
            # The rotation turns a pair of values: none gets larger than the pair's length.
            low, high = output.unflatten(-1, (-1, 2, self._head_size // 2)).float().unbind(-2)
            self.update(f"{block}.{part[0]}_scale", torch.hypot(low, high).max())

    def values(self) -> dict[str, float]:
        values = {name: float(value) for name, value in self._values.items()}
        for part, same in SAME_INPUT.items():
            ending = f".{same}.input_scale"
            for name in [name for name in values if name.endswith(ending)]:
                values[f"{name.removesuffix(ending)}.{part}.input_scale"] = values[name]
        return values


def scale(largest: float) -> float:
    """So that the largest value is E4M3's largest, or next below it. NaN and infinity stay what they are."""
    return scales.rounded_up(max(largest, 1e-12) / scales.LARGEST) if largest < float("inf") else largest


def measure(model_dir: Path, prompts: Sequence[Sequence[int]], progress: Progress) -> Answer:
    """The model runs over one prompt after the other; on a GPU where there is one."""
    from transformers import AutoModelForCausalLM

    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype="auto").to(device).eval()
    largest = Largest(_head_size(model.config))
    for name, module in model.named_modules():
        if LINEAR.fullmatch(name):
            module.register_forward_hook(partial(largest.linear, name))
    with torch.inference_mode():
        for number, prompt in enumerate(prompts, 1):
            model.model(torch.tensor([list(prompt)], device=device), use_cache=False)
            # A GPU is asked seldom, so that it need not wait for the next prompt.
            if not gpu or number % REPORT_EVERY == 0 or number == len(prompts):
                if gpu:
                    torch.cuda.synchronize()
                progress(number, len(prompts))
    values = {name: scale(value) for name, value in largest.values().items()}
    return Answer(torch.__version__, torch.cuda.get_device_name() if gpu else "cpu", values)


def _head_size(config: PretrainedConfig) -> int:
    return getattr(config, "head_dim", None) or int(config.hidden_size // config.num_attention_heads)


def ask(folder: Path, model_dir: Path, prompts: Sequence[Sequence[int]]) -> None:
    """Write what the child reads."""
    _write(folder / REQUEST, codec.to_json(Request(str(model_dir), tuple(map(tuple, prompts)))))


def serve(folder: Path) -> None:
    """The child's work."""
    request = codec.from_json(Request, read_object(folder / REQUEST))
    count = folder / DONE
    answer = measure(
        Path(request.model_dir), request.prompts, lambda done, total: write_text(count, str(done))
    )
    _write(folder / ANSWER, codec.to_json(answer))


def _write(path: Path, data: Mapping[str, object]) -> None:
    write_text(path, json.dumps(data))


def done(folder: Path) -> int:
    """Prompts that the child has finished."""
    path = folder / DONE
    return int(path.read_text(encoding="utf-8")) if path.is_file() else 0


def answered(folder: Path) -> Answer:
    """What the child left."""
    return codec.from_json(Answer, read_object(folder / ANSWER))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
