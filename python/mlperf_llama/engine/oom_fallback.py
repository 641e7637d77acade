"""What is given up when the GPU's memory does not suffice: all steps that are needed, or why none helps.

What costs least speed goes first. The weights' precision is never touched: that would be
another model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from ..rules import MAX_MODEL_LEN, MODEL_SHAPE, ModelShape
from . import derive
from .oom_messages import Phase, Shortage
from .preset import DEFAULT_MAX_NUM_BATCHED_TOKENS, DEFAULT_MAX_NUM_SEQS, VllmArguments

# An engine is loaded so many times again with less.
MOST_RELOADS = 3
# Below these, speed falls apart.
GRAPH_FLOOR, SEQS_FLOOR, TOKENS_FLOOR = 64, 8, 2048
# vLLM's largest graph, and its share of the card, where nothing is set.
DEFAULT_GRAPHS, DEFAULT_SHARE = 512, 0.92
# Where no message says how much is missing, and what is taken beyond what one says.
UNKNOWN_GIB, MARGIN, MARGIN_GIB = 1.0, 1.05, 0.05
GRAPHS, SEQS, TOKENS = "max_cudagraph_capture_size", "max_num_seqs", "max_num_batched_tokens"
CACHE, SHARE = "kv_cache_dtype", "gpu_memory_utilization"


@dataclass(frozen=True)
class FallbackStep:
    """One change of vLLM's arguments: `name` from `before` to `after`."""

    name: str
    before: float | str
    after: float | str

    def __str__(self) -> str:
        return f"{self.name} from {self.before} to {self.after}"

    def apply(self, arguments: VllmArguments) -> VllmArguments:
        if self.name != GRAPHS:
            return {**arguments, self.name: self.after}
        config = dict(arguments.get("compilation_config") or {})
        config.pop("cudagraph_capture_sizes", None)
        return {**arguments, "compilation_config": {**config, self.name: self.after}}


@dataclass(frozen=True)
class Load:
    """An engine that memory did not hold. `user_fixed`: arguments the user chose, which stay. `fp8_cache`:
    whether this GPU reads an 8-bit KV cache. `total_gib`: the GPU's memory; None: unknown.
    `quantized`: the checkpoint is."""

    arguments: VllmArguments
    user_fixed: Collection[str] = ()
    fp8_cache: bool = False
    total_gib: float | None = None
    shape: ModelShape = MODEL_SHAPE
    quantized: bool = False

    @property
    def seqs(self) -> int:
        return int(self.arguments.get(SEQS) or DEFAULT_MAX_NUM_SEQS)

    @property
    def tokens(self) -> int:
        return int(self.arguments.get(TOKENS) or DEFAULT_MAX_NUM_BATCHED_TOKENS)

    @property
    def share(self) -> float:
        return float(self.arguments.get(SHARE) or DEFAULT_SHARE)

    @property
    def part(self) -> ModelShape:
        """What one GPU of a tensor-parallel engine holds."""
        gpus = int(self.arguments.get("tensor_parallel_size") or 1)
        shape = self.shape
        return replace(
            shape,
            heads=max(1, shape.heads // gpus),
            kv_heads=max(1, shape.kv_heads // gpus),
            intermediate=shape.intermediate // gpus,
        )

    @property
    def one_request_gib(self) -> float:
        """The KV cache of a request of the largest length."""
        value_bytes = 1.0 if str(self.arguments.get(CACHE, "")).startswith("fp8") else 2.0
        length = int(self.arguments.get("max_model_len") or MAX_MODEL_LEN)
        return length * self.part.kv_bytes(value_bytes) / derive.GIB

    @property
    def least_gib(self) -> float:
        """Weights, one request, and the smallest step."""
        weight_bytes = 1.0 if self.quantized or self.arguments.get("quantization") else 2.0
        tokens = min(self.tokens, TOKENS_FLOOR) if self.may(TOKENS) else self.tokens
        seqs = min(self.seqs, SEQS_FLOOR) if self.may(SEQS) else self.seqs
        step = derive.activations_gib(self.part, tokens, seqs)
        return (
            derive.weights_gib(self.part, weight_bytes) + derive.NON_TORCH_GIB + step + self.one_request_gib
        )

    def may(self, name: str) -> bool:
        return name not in self.user_fixed

    def after(self, steps: Iterable[FallbackStep]) -> Load:
        arguments = self.arguments
        for step in steps:
            arguments = step.apply(arguments)
        return replace(self, arguments=arguments)


@dataclass(frozen=True)
class Plan:
    """`steps` give `given_gib` of `missing_gib`; `wanted_gib` has a margin over it."""

    steps: tuple[FallbackStep, ...]
    missing_gib: float
    wanted_gib: float
    given_gib: float

    @property
    def suffices(self) -> bool:
        return bool(self.steps) and self.given_gib >= self.missing_gib


Given = tuple[list[FallbackStep], float]


def make_plan(shortage: Shortage, load: Load) -> Plan:
    """All steps that are needed at once, by the memory model of derive.py."""
    missing = shortage.missing or 0.0
    if shortage.phase is Phase.CACHE and shortage.one_request is None:
        missing += load.one_request_gib
    wanted = UNKNOWN_GIB if shortage.missing is None else missing * MARGIN + MARGIN_GIB
    steps: list[FallbackStep] = []
    given = 0.0
    for give in _GIVES[shortage.phase]:
        if given < wanted:
            more, gib = give(load.after(steps), wanted - given, shortage)
            steps, given = steps + more, given + gib
    return Plan(tuple(steps), missing, wanted, given)


def _graphs(load: Load, lacking: float, _: Shortage) -> Given:
    """Fewer sizes that are captured as graphs; their memory goes with the largest."""
    largest = _largest_graph(load)
    if load.arguments.get("enforce_eager") or not load.may("compilation_config") or largest <= GRAPH_FLOOR:
        return [], 0.0
    gib_each = derive.GRAPHS_GIB / max(largest, DEFAULT_GRAPHS)
    after = max(GRAPH_FLOOR, _below(largest - lacking / gib_each, 8))
    return [FallbackStep(GRAPHS, largest, after)], (largest - after) * gib_each


def _largest_graph(load: Load) -> int:
    config = load.arguments.get("compilation_config") or {}
    sizes = config.get("cudagraph_capture_sizes") or []
    largest = config.get("max_cudagraph_capture_size")
    return int(largest or max(sizes, default=min(2 * load.seqs, DEFAULT_GRAPHS)))


def _activations(load: Load, lacking: float, _: Shortage) -> Given:
    """Fewer tokens where the step's widest moment is too large, fewer sequences where the logits are."""
    shape, seqs, tokens = load.part, load.seqs, load.tokens
    now = derive.activations_gib(shape, tokens, seqs)
    target = now - lacking
    if load.may(SEQS) and seqs > SEQS_FLOOR:
        fitting = _below(target / derive.activations_gib(shape, 0, 1), 8)
        seqs = max(SEQS_FLOOR, min(seqs, fitting))
    if load.may(TOKENS):
        # vLLM wants a token per sequence.
        fitting = _below(target / derive.activations_gib(shape, 1, 0), 256)
        tokens = max(min(tokens, max(TOKENS_FLOOR, load.seqs)), min(tokens, fitting))
    after = derive.activations_gib(shape, tokens, seqs)
    if after >= now:
        return [], 0.0
    # Neither goes further than the other can follow.
    if load.may(SEQS):
        seqs = min(load.seqs, max(seqs, _below(after / derive.activations_gib(shape, 0, 1), 8)))
    if load.may(TOKENS):
        tokens = min(load.tokens, max(tokens, _below(after / derive.activations_gib(shape, 1, 0), 256)))
    changes = ((TOKENS, load.tokens, tokens), (SEQS, load.seqs, seqs))
    steps = [FallbackStep(*change) for change in changes if change[1] != change[2]]
    return steps, now - derive.activations_gib(shape, tokens, seqs)


def _cache_precision(load: Load, lacking: float, shortage: Shortage) -> Given:
    """An 8-bit KV cache: a request needs half."""
    before = str(load.arguments.get(CACHE, "auto"))
    if not load.fp8_cache or not load.may(CACHE) or before != "auto":
        return [], 0.0
    return [FallbackStep(CACHE, before, "fp8")], (shortage.one_request or load.one_request_gib) / 2


def _share(load: Load, lacking: float, shortage: Shortage) -> Given:
    """A smaller KV cache, as long as it holds one request."""
    total = shortage.total or load.total_gib
    if not total or not load.may(SHARE):
        return [], 0.0
    hundredths = min(math.ceil(100 * lacking / total - 1e-9), math.floor(100 * load.share) - 1)
    if shortage.cache is not None:
        spare = shortage.cache - load.one_request_gib
        hundredths = min(hundredths, math.floor(100 * spare / total + 1e-9))
    if hundredths < 1:
        return [], 0.0
    step = FallbackStep(SHARE, load.share, round(load.share - hundredths / 100, 4))
    return [step], hundredths / 100 * total


def _below(number: float, multiple: int) -> int:
    return max(0, math.floor(number / multiple) * multiple)


# What gives memory where it was missing, least speed lost first. Before the cache is made, nothing else holds
# memory that could be given up; once it is made, fewer tokens and sequences only make it larger.
_GIVES: dict[Phase, tuple[Callable[[Load, float, Shortage], Given], ...]] = {
    Phase.STARTUP: (),
    Phase.WEIGHTS: (),
    Phase.PROFILE: (_activations,),
    Phase.CACHE: (_graphs, _activations, _cache_precision),
    Phase.SERVING: (_share, _graphs),
}
