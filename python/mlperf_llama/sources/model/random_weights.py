"""Sources `random` and `random-fp8`: the model's exact shape, for its speed alone. Never eligible.

What a GPU will do can be measured before the gated weights are here: vLLM fills them with
random numbers (engine/random_weights.py). The tokenizer is trained on the synthetic articles,
with a vocabulary that gives their prompts the length they have in Llama's tokens. `random-fp8`
stands for the static checkpoint of `make quantize`, with made-up scales.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...config import Config
from ...records.files import digest
from ..chain import Served
from ..dataset import grammar
from . import fake, shape

RANDOM, RANDOM_FP8 = "random", "random-fp8"
# Prompts of the 13,368 synthetic articles then hold 896 tokens on average, near roofline.PROMPT_MEAN.
VOCABULARY = 4440


def is_random(model_config: Mapping[str, object]) -> bool:
    """Whether config.json was written here, so that the engine has to make the weights up."""
    return bool(model_config.get("random_weights"))


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """A folder with config.json and a tokenizer, from the cache if it was made before."""
    model_config = {**shape.CONFIG, "random_weights": True}
    if config.model == RANDOM_FP8:
        model_config["quantization_config"] = shape.FP8_STATIC
    folder = config.cache_path / "models" / f"{config.model}-{grammar.version()}"
    fake.provide(folder, VOCABULARY, model_config)
    sha256 = digest(folder / "config.json")
    reason = "random weights in Llama-3.1-8B's shape: its speed, not its answers"
    details = {"model": config.model, "same_shape": True}
    return Served(config.model, str(folder), sha256, False, reason, details=details)
