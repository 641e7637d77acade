"""vLLM's scheduler with control over when prompts enter a step, and counters.

Runs in vLLM's engine process. A step holds every running sequence's next token and, beside
them, at most `prefill_tokens` prompt tokens: small for a steady TPOT, large for TTFT and
throughput. vLLM's own limit caps both together, so that under load the prompts starve as
sequences pile up. `Pacing` says which steps prompts may enter, and whether they stay whole: a
longer one is then alone in its step. Both change between runs without a reload.
"""

from __future__ import annotations

from typing import Any

from .hopper.compat import AsyncScheduler, EngineCore, Scheduler
from .pacing import Pacing


def _slots_name(scheduler: Any) -> str:
    """vLLM 0.31 tells the number of slots from the number admitted; before, one name is for both."""
    return "max_num_active_reqs" if hasattr(scheduler, "max_num_active_reqs") else "max_num_running_reqs"


class _Capped:
    """Mixed into both of vLLM's schedulers."""

    max_num_scheduled_tokens: int

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.ceiling: int = self.max_num_scheduled_tokens
        self.prefill_tokens: int = self.ceiling
        self.pacing = Pacing()
        self._slots = _slots_name(self)
        self._since_prompts = 0
        self.totals = {"steps": 0, "scheduled_tokens": 0, "preemptions": 0}

    def schedule(self, *args: object, **kwargs: object) -> Any:
        prefill = self.prefill_tokens
        if self.pacing.whole_prompts:
            first = next(iter(self.waiting), None)  # type: ignore[attr-defined]
            longest = first.num_tokens if first else 0
            # A prompt longer than a step's share enters alone; one that no step can hold is split.
            prefill = max(prefill, longest)
            headroom = self.ceiling - len(self.running)  # type: ignore[attr-defined]
            self.scheduler_config.enable_chunked_prefill = headroom < longest  # type: ignore[attr-defined]
        if self.prefill_tokens < self.ceiling:
            decoding = sum(not request.is_prefill_chunk for request in self.running)  # type: ignore[attr-defined]
            self.max_num_scheduled_tokens = min(self.ceiling, decoding + prefill)
        slots = getattr(self, self._slots)
        running = len(self.running)  # type: ignore[attr-defined]
        if self.pacing.holds(running, self._since_prompts):
            setattr(self, self._slots, running)
        try:
            output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        finally:
            setattr(self, self._slots, slots)
        if output.total_num_scheduled_tokens:
            self.totals["steps"] += 1
            self.totals["scheduled_tokens"] += output.total_num_scheduled_tokens
            prompts = output.total_num_scheduled_tokens > len(output.num_scheduled_tokens)
            self._since_prompts = 0 if prompts else self._since_prompts + 1
        return output

    def _preempt_request(self, *args: object, **kwargs: object) -> Any:
        self.totals["preemptions"] += 1
        return super()._preempt_request(*args, **kwargs)  # type: ignore[misc]


class CappedScheduler(_Capped, Scheduler):  # type: ignore[misc]
    """For engines that plan a step after the last one has ended (the CPU's)."""


class CappedAsyncScheduler(_Capped, AsyncScheduler):  # type: ignore[misc]
    """For engines that plan the next step while the GPU works (the GPU's)."""


def set_limits(core: EngineCore, max_num_seqs: int | None, prefill_tokens: int | None) -> None:
    """Utility of the engine process: limits for the runs that follow; None leaves a ceiling."""
    scheduler = core.scheduler
    scheduler.prefill_tokens = min(prefill_tokens or scheduler.ceiling, scheduler.ceiling)
    scheduler.max_num_scheduled_tokens = scheduler.ceiling
    ceiling = scheduler.scheduler_config.max_num_seqs
    setattr(scheduler, _slots_name(scheduler), min(max_num_seqs or ceiling, ceiling))


def set_pacing(core: EngineCore, whole_prompts: bool, gap_steps: int) -> None:
    """Utility of the engine process: see Pacing."""
    core.scheduler.pacing = Pacing(whole_prompts, gap_steps)
    core.scheduler.scheduler_config.enable_chunked_prefill = True


def counters(core: EngineCore) -> dict[str, int]:
    """Utility of the engine process: totals since the engine came up."""
    kv_tokens = core.scheduler.cache_config.num_gpu_blocks * core.scheduler.block_size
    return {**core.scheduler.totals, "kv_cache_tokens": kv_tokens}


EngineCore.mlperf_set_limits = set_limits
EngineCore.mlperf_set_pacing = set_pacing
EngineCore.mlperf_counters = counters
