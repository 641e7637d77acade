"""What is given up when the GPU's memory does not suffice: one fallback step at a time, each recorded.

What costs least speed goes first. The weights' precision is never touched: that would be
another model.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from .preset import DEFAULT_MAX_NUM_BATCHED_TOKENS, DEFAULT_MAX_NUM_SEQS, VllmArguments

# What torch, vLLM's allocator of the KV cache and the CUDA driver say.
SIGNS = (
    "out of memory",
    "outofmemory",
    "no available memory for the cache blocks",
    "larger than the available kv cache",
    "cuda_error_out_of_memory",
)
# Graphs above this size pay for their memory least; below these, speed falls apart.
GRAPH_FLOOR, SEQS_FLOOR, TOKENS_FLOOR = 64, 8, 2048
# vLLM's largest graph where nothing is set.
DEFAULT_GRAPHS = 512


@dataclass(frozen=True)
class FallbackStep:
    """One change of vLLM's arguments: `name` from `before` to `after`."""

    name: str
    before: int | str
    after: int | str

    def __str__(self) -> str:
        return f"{self.name} from {self.before} to {self.after}"

    def apply(self, arguments: VllmArguments) -> VllmArguments:
        if self.name != "max_cudagraph_capture_size":
            return {**arguments, self.name: self.after}
        config = dict(arguments.get("compilation_config") or {})
        config.pop("cudagraph_capture_sizes", None)
        return {**arguments, "compilation_config": {**config, self.name: self.after}}


def is_out_of_memory(text: str) -> bool:
    lower = text.lower()
    return any(sign in lower for sign in SIGNS)


def next_step(arguments: VllmArguments, user_fixed: Collection[str], fp8_cache: bool) -> FallbackStep | None:
    """The next step; None where nothing is left. `user_fixed`: arguments the user chose, which stay.
    `fp8_cache`: whether this GPU can read an 8-bit KV cache."""
    seqs = int(arguments.get("max_num_seqs") or DEFAULT_MAX_NUM_SEQS)
    if not arguments.get("enforce_eager") and "compilation_config" not in user_fixed:
        graphs = _largest_graph(arguments, seqs)
        if graphs > GRAPH_FLOOR:
            return FallbackStep("max_cudagraph_capture_size", graphs, max(GRAPH_FLOOR, graphs // 2))
    tokens = int(arguments.get("max_num_batched_tokens") or DEFAULT_MAX_NUM_BATCHED_TOKENS)
    # Sequences and tokens take turns, whichever is further above its floor.
    may_seqs = "max_num_seqs" not in user_fixed and seqs > SEQS_FLOOR
    may_tokens = "max_num_batched_tokens" not in user_fixed and tokens > TOKENS_FLOOR
    if may_seqs and (
        not may_tokens or seqs / DEFAULT_MAX_NUM_SEQS >= tokens / DEFAULT_MAX_NUM_BATCHED_TOKENS
    ):
        return FallbackStep("max_num_seqs", seqs, max(SEQS_FLOOR, seqs * 3 // 4))
    if may_tokens:
        return FallbackStep("max_num_batched_tokens", tokens, max(TOKENS_FLOOR, tokens // 2))
    cache = str(arguments.get("kv_cache_dtype", "auto"))
    if fp8_cache and "kv_cache_dtype" not in user_fixed and cache == "auto":
        return FallbackStep("kv_cache_dtype", cache, "fp8")
    return None


def _largest_graph(arguments: VllmArguments, seqs: int) -> int:
    config = arguments.get("compilation_config") or {}
    sizes = config.get("cudagraph_capture_sizes") or []
    largest = config.get("max_cudagraph_capture_size")
    return int(largest or max(sizes, default=min(2 * seqs, DEFAULT_GRAPHS)))
