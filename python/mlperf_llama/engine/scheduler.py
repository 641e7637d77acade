"""vLLM's scheduler with two additions: a cap on prefill tokens a step, and counters.

Runs in vLLM's engine process. A step holds every running answer's next token and,
beside them, at most `prefill_tokens` prompt tokens: small for a steady TPOT, large
for TTFT and throughput. vLLM's own limit caps both together, so that under load the
prompts starve as answers pile up. With `whole_prompts` no prompt is split over steps,
so that its attention never reads the cache. The limits change between runs without a reload.
"""

from __future__ import annotations

from typing import Any

from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine.core import EngineCore


class _Capped:
    """Mixed into both of vLLM's schedulers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ceiling: int = self.max_num_scheduled_tokens
        self.prefill_tokens: int = self.ceiling
        self.totals = {"steps": 0, "scheduled_tokens": 0, "preemptions": 0}

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        if self.prefill_tokens < self.ceiling:
            answering = sum(not request.is_prefill_chunk for request in self.running)  # type: ignore[attr-defined]
            self.max_num_scheduled_tokens = min(self.ceiling, answering + self.prefill_tokens)
        output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        if output.total_num_scheduled_tokens:
            self.totals["steps"] += 1
            self.totals["scheduled_tokens"] += output.total_num_scheduled_tokens
        return output

    def _preempt_request(self, *args: Any, **kwargs: Any) -> Any:
        self.totals["preemptions"] += 1
        return super()._preempt_request(*args, **kwargs)  # type: ignore[misc]


class CappedScheduler(_Capped, Scheduler):  # type: ignore[misc]
    """For engines that plan a step after the last one has ended (the CPU's)."""


class CappedAsyncScheduler(_Capped, AsyncScheduler):  # type: ignore[misc]
    """For engines that plan the next step while the GPU works (the GPU's)."""


def set_limits(
    core: EngineCore, max_num_seqs: int | None, prefill_tokens: int | None, whole_prompts: bool = False
) -> None:
    """Utility of the engine process: limits for the runs that follow; None leaves a ceiling."""
    scheduler = core.scheduler
    seats = scheduler.scheduler_config.max_num_seqs
    seats = min(max_num_seqs or seats, seats)
    scheduler.prefill_tokens = min(prefill_tokens or scheduler.ceiling, scheduler.ceiling)
    scheduler.max_num_scheduled_tokens = scheduler.ceiling
    # Where the longest prompt does not fit beside a full batch it could never start whole.
    room = min(scheduler.prefill_tokens, scheduler.ceiling - seats)
    whole_prompts = whole_prompts and room >= scheduler.max_model_len
    scheduler.scheduler_config.enable_chunked_prefill = not whole_prompts
    # vLLM 0.27 tells the number of slots from the number admitted; 0.26 has one name for both.
    name = "max_num_active_reqs" if hasattr(scheduler, "max_num_active_reqs") else "max_num_running_reqs"
    setattr(scheduler, name, seats)


def counters(core: EngineCore) -> dict[str, int]:
    """Utility of the engine process: totals since the engine came up."""
    kv_tokens = core.scheduler.cache_config.num_gpu_blocks * core.scheduler.block_size
    return {**core.scheduler.totals, "kv_cache_tokens": kv_tokens}


EngineCore.mlperf_set_limits = set_limits
EngineCore.mlperf_counters = counters
