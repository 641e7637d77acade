"""What a GPU could do at most on this benchmark, from its data sheet: compute against bandwidth.

Counts, for one sample, the arithmetic and the bytes that no engine can avoid, and
divides them by the card's rates. Nothing here is measured: a result's share of the
limit says how much is left to gain, and `binds` says which resource runs out first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import rules
from ..rules import MODEL_SHAPE, ModelShape
from .gpu_table import GpuSpec

# Mean and standard deviation of the prompts' lengths in tokens (Llama 3 tokenizer, 100 real articles).
PROMPT_MEAN, PROMPT_SD = 895.0, 411.0
# Share of the card's memory an engine may use, and what it keeps for activations and graphs, in GB.
MEMORY_SHARE = 0.92
WORKSPACE_GB = 1.5


@dataclass(frozen=True)
class Precision:
    """How numbers are held. `compute` names the rate of the matrix products: fp16, fp8 or int8.

    Attention and the output matrix stay in 16 bits, as vLLM keeps them.
    """

    name: str
    compute: str
    weight_bytes: float
    kv_bytes: float
    head_bytes: float = 2.0


PRECISIONS = {
    p.name: p
    for p in (
        Precision("fp16", "fp16", 2, 2),
        Precision("w8a16", "fp16", 1, 2),
        Precision("int8", "int8", 1, 2),
        Precision("fp8", "fp8", 1, 2),
        Precision("fp8-kv8", "fp8", 1, 1),
    )
}


@dataclass(frozen=True)
class Prediction:
    """Seconds of one sample's work on each resource, and what follows.

    `limit`: samples/s where compute and memory overlap perfectly. `serial`: where they
    never do. `sustained`: the limit with compute at the measured rate, None where unmeasured.
    `concurrency`: sequences whose KV cache fits into the memory at once.
    """

    gpu: str
    precision: str
    compute_s: float
    memory_s: float
    concurrency: int
    binds: str
    limit: float
    serial: float
    sustained: float | None

    def share(self, samples_per_s: float) -> float:
        """What part of the limit was reached, 0 to 1."""
        return samples_per_s / self.limit


def precision_of(settings: Mapping[str, object], card: GpuSpec | None = None) -> str | None:
    """The precision an engine's settings amount to; None where they name something else.

    A card without FP8 tensor cores multiplies FP8 weights in 16 bits.
    """
    quantization = str(settings.get("quantization") or "").lower()
    kv_8bit = str(settings.get("kv_cache_dtype") or "").lower().startswith("fp8")
    if quantization in ("", "none", "auto"):
        return "fp16" if not kv_8bit else None
    if "fp8" in quantization and card is not None and "fp8" not in card.rates:
        return "w8a16"
    if "fp8" in quantization:
        return "fp8-kv8" if kv_8bit else "fp8"
    known = {"w8a8": "int8", "int8": "int8", "w8a16": "w8a16"}
    return next((name for word, name in known.items() if word in quantization and not kv_8bit), None)


def _compute_seconds(
    rates: Mapping[str, float], precision: Precision, shape: ModelShape, prompt: tuple[float, float], new: int
) -> float:
    mean, deviation = prompt
    # The last new token is never fed back, so `new - 1` tokens follow the prompt.
    fed = mean + new - 1
    body = 2.0 * shape.body_weights * fed
    head = 2.0 * shape.head_weights * new
    # Causal attention over the prompt: half the square; then each fed token sees all before it.
    prefill_keys = (mean**2 + deviation**2) / 2
    decode_keys = (new - 1) * (mean + new / 2)
    attention = shape.attention_flops * (prefill_keys + decode_keys)
    return body / (rates[precision.compute] * 1e12) + (head + attention) / (rates["fp16"] * 1e12)


def predict(
    gpu: GpuSpec,
    precision: Precision,
    shape: ModelShape = MODEL_SHAPE,
    prompt: tuple[float, float] = (PROMPT_MEAN, PROMPT_SD),
    new_tokens: int = rules.MAX_NEW_TOKENS,
    max_num_seqs: int | None = None,
) -> Prediction | None:
    """The limit of Offline on one card; None where the card lacks the precision or the memory.

    A step reads all weights once for every sequence in it, and each sequence's KV cache.
    """
    if precision.compute not in gpu.rates:
        return None
    mean = prompt[0]
    body_bytes = shape.body_weights * precision.weight_bytes
    head_bytes = shape.head_weights * precision.head_bytes
    token_bytes = shape.kv_bytes(precision.kv_bytes)
    # The input embedding takes memory too, in 16 bits.
    free = gpu.memory * 1e9 * MEMORY_SHARE - WORKSPACE_GB * 1e9 - body_bytes - head_bytes
    free -= shape.head_weights * 2
    fits = int(free / (token_bytes * (mean + new_tokens)))
    if fits < 1:
        return None
    concurrency = min(fits, max_num_seqs or fits)
    kv_read = token_bytes * (new_tokens - 1) * (mean + new_tokens / 2)
    weights_read = (body_bytes + head_bytes) * new_tokens / concurrency
    memory_s = (kv_read + weights_read) / (gpu.bandwidth * 1e9)
    compute_s = _compute_seconds(gpu.rates, precision, shape, prompt, new_tokens)
    measured = None
    if precision.compute in gpu.sustained:
        measured = _compute_seconds({**gpu.rates, **gpu.sustained}, precision, shape, prompt, new_tokens)
    return Prediction(
        gpu=gpu.name,
        precision=precision.name,
        compute_s=compute_s,
        memory_s=memory_s,
        concurrency=concurrency,
        binds="compute" if compute_s >= memory_s else "memory bandwidth",
        limit=1 / max(compute_s, memory_s),
        serial=1 / (compute_s + memory_s),
        sustained=None if measured is None else 1 / max(measured, memory_s),
    )
