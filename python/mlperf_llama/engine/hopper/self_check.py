"""Whether a loaded model gives with the extension what it gives by vLLM's own classes, asked in its worker.

Eight made-up prompts (steps.py) go through the real model, cache and metadata, in the first pages of a cache
that nobody uses yet: once as every step goes, compiled, without graphs (which repeat the same kernels), and
once by vLLM's own classes, eagerly, on the same weights (own_path.py). Both are held against a third way:
vLLM's classes with attention over whole sequences, nothing of it quantised and nothing cached. An error is
the root mean square over a token's logits, in standard deviations of these. How large it is depends on the
weights and the cache's precision, for both alike; what the kernels have over vLLM's own is a fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeAlias

import torch

from . import own_path, steps
from .compat import CommonAttentionMetadata, set_forward_context

# What stands in pages that no token was written to: FP8's largest number, or one that large.
UNWRITTEN_CODE, UNWRITTEN = 0x7E, 448.0
# In place of a difference that is no number, which JSON cannot say.
NOT_A_NUMBER = 1e6
Build: TypeAlias = Callable[[Any, Any], object]
# Of every step's wanted tokens; None in a worker of tensor parallelism that gets none.
Logits: TypeAlias = list[torch.Tensor] | None


def _extended(builder: Any, common: Any) -> object:
    return builder.build(0, common)


class Comparison:
    """One model and its cache."""

    def __init__(self, runner: Any, vllm_config: Any) -> None:
        self._network, self._config = runner.get_model(), vllm_config
        self._groups = [group for groups in runner.attn_groups for group in groups]
        builders = [group.get_metadata_builder(0) for group in self._groups]
        self._page = int(builders[0].kv_cache_spec.block_size)
        self._device = next(self._network.parameters()).device
        scheduler, model = vllm_config.scheduler_config, vllm_config.model_config
        wanted = steps.LONGEST_ON_CPU if self._device.type == "cpu" else steps.LONGEST
        longest = steps.longest_prompt(wanted, model.max_model_len, scheduler.max_num_batched_tokens)
        self.steps = steps.plan(longest, scheduler.max_num_seqs)
        self.lengths = steps.lengths(self.steps)
        table = steps.block_tables(self.lengths, self._page)
        prompts = steps.made_up_tokens(self.lengths, model.get_vocab_size())
        self._whole = torch.cat(prompts).int(), torch.cat([torch.arange(n) for n in self.lengths])
        self._places = torch.tensor(steps.places(self.steps, self.lengths))
        self._tensors = [steps.step_tensors(rows, prompts, table, self._page) for rows in self.steps]
        self._pages = int(table.max()) + 1

    def extended_logits(self) -> Logits:
        return self._logits(_extended, nullcontext(), eager=False)

    def own_logits(self) -> Logits:
        return self._logits(own_path.build, own_path.own_path(self._network), eager=True)

    def exact_logits(self) -> Logits:
        """In one step, whole sequences."""
        tokens, positions = self._whole
        exact = own_path.exact_attention(self._network, self.lengths)
        with own_path.own_path(self._network), exact:
            with set_forward_context({}, self._config, num_tokens=len(tokens), skip_compiled=True):
                states = self._states(tokens, positions)
            logits = self._logits_of(states, self._places)
        return None if logits is None else [logits]

    def _logits(self, build: Build, around: AbstractContextManager[None], eager: bool) -> Logits:
        self._fill(UNWRITTEN_CODE, UNWRITTEN)
        with around:
            of_steps = [self._forward(step, build, eager) for step in self._tensors]
        self._fill(0, 0.0)
        return [logits for logits in of_steps if logits is not None] or None

    def _caches(self) -> list[torch.Tensor]:
        layers = self._config.compilation_config.static_forward_context
        return [layers[name].kv_cache for group in self._groups for name in group.layer_names]

    def _fill(self, code: int, number: float) -> None:
        for cache in self._caches():
            cache[1 : self._pages] = code if cache.dtype == torch.uint8 else number

    def _metadata(self, step: steps.Step, build: Build) -> dict[str, object]:
        common = CommonAttentionMetadata(
            query_start_loc=step.starts.to(self._device),
            query_start_loc_cpu=step.starts,
            seq_lens=step.lengths.to(self._device),
            seq_lens_cpu_upper_bound=step.lengths,
            num_reqs=len(step.lengths),
            num_actual_tokens=len(step.positions),
            max_query_len=int(step.starts.diff().max()),
            max_seq_len=int(step.lengths.max()),
            block_table_tensor=step.block_table.to(self._device),
            slot_mapping=step.slots.to(self._device),
            positions=step.positions.to(self._device),
        )
        built: dict[str, object] = {}
        for group in self._groups:
            built |= dict.fromkeys(group.layer_names, build(group.get_metadata_builder(0), common))
        return built

    def _forward(self, step: steps.Step, build: Build, eager: bool) -> torch.Tensor | None:
        metadata = self._metadata(step, build)
        slots = dict.fromkeys(metadata, step.slots.to(self._device))
        with set_forward_context(
            metadata, self._config, num_tokens=len(step.positions), slot_mapping=slots, skip_compiled=eager
        ):
            states = self._states(step.input_ids, step.positions)
        return self._logits_of(states, step.wanted)

    def _states(self, tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self._network(
            input_ids=tokens.to(self._device),
            positions=positions.to(self._device),
            intermediate_tensors=None,
            inputs_embeds=None,
        )
        return states

    def _logits_of(self, states: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor | None:
        logits: torch.Tensor | None = self._network.compute_logits(states[wanted.to(self._device)])
        return logits


def errors(logits: Sequence[torch.Tensor], exact: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of each token, in the order of the steps: [tokens]."""
    computed, reference = torch.cat(list(logits)).float(), torch.cat(list(exact)).float()
    each = (computed - reference).pow(2).mean(-1).sqrt() / reference.std(-1)
    return each.nan_to_num(NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER).clamp(max=NOT_A_NUMBER)


def figures(extended: Logits, own: Logits, exact: Logits) -> dict[str, float] | None:
    """Mean and largest error of the extension and of vLLM's own; None where there are no logits."""
    if extended is None or own is None or exact is None:
        return None
    ours, theirs = errors(extended, exact), errors(own, exact)
    return {
        "mean": float(ours.mean()),
        "largest": float(ours.max()),
        "own_mean": float(theirs.mean()),
        "own_largest": float(theirs.max()),
        "compared": len(ours),
    }


def run(runner: Any, vllm_config: Any) -> dict[str, float] | None:
    """The figures; None in a worker of tensor parallelism that is not the first."""
    began = time.perf_counter()
    with torch.inference_mode():
        comparison = Comparison(runner, vllm_config)
        # Each is computed by every worker, since they exchange parts.
        logits = comparison.extended_logits(), comparison.own_logits(), comparison.exact_logits()
        errors_of_both = figures(*logits)
    if errors_of_both is None:
        return None
    counts = {"prompts": len(comparison.lengths), "steps": len(comparison.steps)}
    return {**errors_of_both, **counts, "seconds": time.perf_counter() - began}
