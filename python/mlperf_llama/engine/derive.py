"""Engine settings worked out from what a GPU has: memory, bandwidth, compute.

For GPUs without a preset, and to check the presets. The memory model follows vLLM's own
bookkeeping: its share of the card, less weights, the largest step's activations and what
CUDA takes, is KV cache; graphs come on top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .. import rules
from ..machine.gpu_table import capability_of, find_gpu, may_draw_desktop
from ..machine.roofline import PROMPT_MEAN, PROMPT_SD
from ..records.schema import Gpu
from ..rules import MODEL_SHAPE, ModelShape

GIB = 1024**3
# vLLM 0.26 on an H100 (8192 tokens per step, 512 sequences): 0.22 GiB outside torch, 0.71 to 0.78 GiB of
# graphs, 1.13 GiB of activations, the widest moment of a step: gate and up beside their result,
# and seven and a half rows of the hidden size.
NON_TORCH_GIB = 0.22
GRAPHS_GIB = 0.78
HIDDEN_ROWS = 7.5
# The sampler holds the logits of every sequence in 32 bits, about three times.
LOGIT_COPIES = 3
# Measured on an H100: beyond these, neither more sequences nor more tokens per step paid.
MOST_TOKENS, MOST_SEQS, FAST_SEQS = 8192, 512, 1024
LEAST_TOKENS = 2048
# A card this fast in GB/s has use for more sequences.
FAST_BANDWIDTH = 4500.0
# The tensor cores multiply INT8 from Turing on, FP8 from Ada on.
INT8_CAPABILITY, FP8_CAPABILITY = 7.5, 8.9
# A step's activations may take this share of the card.
ACTIVATION_SHARE = 0.04
# vLLM's share of the card's memory; a desktop draws on the card too. The graphs need what is left.
SHARE, DESKTOP_SHARE, SPARE_GIB = 0.95, 0.92, 0.3
# Of memory that the GPU shares with the system, which holds all other processes and the files' cache too.
SHARED_SHARE = 0.8
LEAST_SHARE = 0.1
# Prompt tokens beside decode tokens: this share of the TPOT limit, at half the card's rate.
PREFILL_SHARE, EFFICIENCY, LEAST_PREFILL = 0.8, 0.5, 256


@dataclass(frozen=True)
class Card:
    """`memory_gib` as CUDA gives it. `capability`: compute capability, such as 8.9. Rates in
    TFLOP/s and GB/s. None where unknown. `shared_memory`: its memory is the system's."""

    name: str
    memory_gib: float | None
    capability: float | None
    compute: float | None = None
    bandwidth: float | None = None
    shared_memory: bool = False

    @property
    def fp8(self) -> bool:
        """Whether the tensor cores multiply in FP8."""
        return self.capability is not None and self.capability >= FP8_CAPABILITY

    @property
    def fp8_cache(self) -> bool:
        """Whether vLLM's attention reads an 8-bit cache at full speed: FlashAttention 3, FlashInfer."""
        return self.capability is not None and 9.0 <= self.capability < 12.0


@dataclass(frozen=True)
class Footprint:
    """Where the card's memory goes, in GiB, and what the KV cache holds."""

    weights_gib: float
    activations_gib: float
    graphs_gib: float
    kv_gib: float
    kv_tokens: int
    total_gib: float


@dataclass(frozen=True)
class Derived:
    """vLLM's arguments, and by scenario the prompt tokens that a step may read beside decode tokens."""

    engine: dict[str, int | float | str]
    prefill_tokens: dict[str, int]


def card_of(gpu: Gpu) -> Card:
    """A card, with its rates where the table of GPUs has it; what neither tells stays unknown."""
    sheet = find_gpu(gpu)
    memory = gpu.memory_gib or (sheet.memory * 1e9 / GIB if sheet else None)
    capability = capability_of(gpu) or (sheet.capability if sheet else None)
    compute = None
    if sheet:
        eight_bits = "fp8" if (capability or 0) >= FP8_CAPABILITY else "int8"
        compute = sheet.rates[eight_bits if eight_bits in sheet.rates else "fp16"]
    # The driver's figure is a little more than CUDA's: 79.65 against 79.18 on an H100.
    usable = None if memory is None else 0.994 * memory
    bandwidth = sheet.bandwidth if sheet else None
    return Card(gpu.name, usable, capability, compute, bandwidth, bool(gpu.shared_memory))


def weights_gib(shape: ModelShape, weight_bytes: float) -> float:
    """Matrices at `weight_bytes`; embedding and head stay in 16 bits."""
    return (shape.body_weights * weight_bytes + 2 * shape.head_weights * 2) / GIB


def activations_gib(shape: ModelShape, tokens: int, seqs: int) -> float:
    """The larger of a whole step's widest moment and the sampler's logits."""
    step = tokens * 2 * (3 * shape.intermediate + HIDDEN_ROWS * shape.hidden)
    return max(step, LOGIT_COPIES * 4 * seqs * shape.vocabulary) / GIB


def footprint(
    memory_gib: float,
    weight_bytes: float,
    kv_bytes: float,
    seqs: int,
    tokens: int,
    share: float,
    shape: ModelShape = MODEL_SHAPE,
) -> Footprint:
    """Memory of an engine so set up on so much memory. `kv_gib` is 0 or less where it does not fit."""
    weights = weights_gib(shape, weight_bytes)
    activations = activations_gib(shape, tokens, seqs)
    kv = share * memory_gib - weights - activations - NON_TORCH_GIB
    kv_tokens = max(0, int(kv * GIB / shape.kv_bytes(kv_bytes)))
    total = share * memory_gib + GRAPHS_GIB
    return Footprint(weights, activations, GRAPHS_GIB, kv, kv_tokens, total)


def sequences_that_fit(kv_tokens: int) -> int:
    """Sequences that hold their whole prompt and response at once, in 99 of 100 draws."""
    mean, spread = PROMPT_MEAN + rules.MAX_NEW_TOKENS, 2.33 * PROMPT_SD
    # n means and the spread of their sum fill the cache: a quadratic in the root of n.
    root = (-spread + math.sqrt(spread**2 + 4 * mean * kv_tokens)) / (2 * mean)
    return int(root**2)


def memory_share(card: Card, memory_gib: float) -> float:
    """vLLM's share of the card: the graphs come on top, and a desktop draws too. Never under a tenth, where
    nothing fits anyway: vLLM then says so in its own words."""
    most = SHARED_SHARE if card.shared_memory else DESKTOP_SHARE if may_draw_desktop(card.name) else SHARE
    graphs = 1 - (GRAPHS_GIB + SPARE_GIB) / memory_gib
    return max(LEAST_SHARE, math.floor(100 * min(most, graphs)) / 100)


def precision(card: Card) -> str | None:
    """The quantisation made while loading, where the tensor cores multiply it at twice the rate of 16 bits
    (it also halves the weights' memory); None: 16 bits."""
    if card.fp8:
        return "fp8"
    return "int8" if card.capability is not None and card.capability >= INT8_CAPABILITY else None


def step_tokens(memory_gib: float, shape: ModelShape = MODEL_SHAPE) -> int:
    """Tokens per step: as many as memory allows, at most what paid on an H100."""
    fitting = ACTIVATION_SHARE * memory_gib / activations_gib(shape, 1, 0)
    tokens = 1 << int(math.log2(max(fitting, 1)))
    return max(LEAST_TOKENS, min(tokens, MOST_TOKENS))


def prefill_tokens(card: Card, tpot_ms: float, ceiling: int, shape: ModelShape = MODEL_SHAPE) -> int | None:
    """Prompt tokens that a step may read beside decode tokens, to keep TPOT; None: no cap."""
    if card.compute is None:
        return None
    seconds = PREFILL_SHARE * tpot_ms / 1000
    tokens = seconds * EFFICIENCY * card.compute * 1e12 / (2 * shape.body_weights)
    cap = 1 << int(math.log2(max(tokens, LEAST_PREFILL)))
    return None if cap >= ceiling else cap


def _sequences(
    card: Card, memory_gib: float, quantization: str | None, tokens: int, share: float, shape: ModelShape
) -> int:
    """As many as the card holds, at most what paid on an H100."""
    most = FAST_SEQS if (card.bandwidth or 0) >= FAST_BANDWIDTH else MOST_SEQS
    kv_bytes = 1.0 if card.fp8_cache else 2.0
    memory = footprint(memory_gib, 1.0 if quantization else 2.0, kv_bytes, most, tokens, share, shape)
    fitting = sequences_that_fit(memory.kv_tokens)
    return max(8, min(most, fitting - fitting % 8))


def settings(card: Card, shape: ModelShape = MODEL_SHAPE) -> Derived:
    """Settings for a card. Where its memory is unknown, share and sequences are left to vLLM."""
    quantization = precision(card)
    engine: dict[str, int | float | str] = {}
    tokens = LEAST_TOKENS
    if card.memory_gib is not None:
        tokens = step_tokens(card.memory_gib, shape)
        share = memory_share(card, card.memory_gib)
        engine["max_num_seqs"] = _sequences(card, card.memory_gib, quantization, tokens, share, shape)
        engine["gpu_memory_utilization"] = share
    engine["max_num_batched_tokens"] = tokens
    if quantization:
        engine["quantization"] = quantization
    if card.fp8_cache:
        engine["kv_cache_dtype"] = "fp8"
    limits = rules.TOKEN_LATENCY_LIMITS_MS
    caps = {name: prefill_tokens(card, tpot_ms, tokens, shape) for name, (_, tpot_ms) in limits.items()}
    return Derived(engine, {name: cap for name, cap in caps.items() if cap})
