"""The package's scheduler with notes of each step, and a profiler, both called from outside.

Imported in the engine's process, which is the worker's too where one GPU is used.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Sized
from functools import partial
from typing import Any

import torch
from vllm.v1.engine.core import EngineCore

from mlperf_llama.engine.scheduler import CappedAsyncScheduler, CappedScheduler

# Kernels listed of a profile, by time.
KERNELS = 40
# Idle times listed, by time, and how long one is at least.
GAPS, GAP_US = 12, 20.0


class _Noting:
    """Mixed into both schedulers: (seconds, tokens, sequences, waiting) of each step."""

    waiting: Sized

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.notes: list[tuple[float, int, int, int]] = []

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        if tokens := output.total_num_scheduled_tokens:
            sequences = len(output.num_scheduled_tokens)
            self.notes.append((time.perf_counter(), tokens, sequences, len(self.waiting)))
        return output


class Async(_Noting, CappedAsyncScheduler):
    """The GPU's."""


class Sync(_Noting, CappedScheduler):
    """The CPU's."""


def take_notes(core: EngineCore) -> list[tuple[float, int, int, int]]:
    """Utility: the notes since the last call."""
    notes: list[tuple[float, int, int, int]] = core.scheduler.notes
    core.scheduler.notes = []
    return notes


def profile(core: EngineCore, on: bool) -> Any:
    """Utility: start the profiler, or stop it and give (wall seconds, [[kernel, count, seconds]], idle)."""
    if on:
        core.bench_profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA])
        core.bench_profile.start()
        core.bench_started = time.perf_counter()
        return None
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    wall = time.perf_counter() - core.bench_started
    core.bench_profile.stop()
    averages = core.bench_profile.key_averages()
    rows = [
        [e.key[:160], e.count, e.self_device_time_total / 1e6] for e in averages if e.self_device_time_total
    ]
    return wall, sorted(rows, key=lambda row: -row[2])[:KERNELS], idle(core.bench_profile.events())


def idle(events: Iterable[Any]) -> list[list[Any]]:
    """Where the GPU stood still for GAP_US and more: [[kernel before, kernel behind, count, seconds]]."""
    kernels = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels.sort(key=lambda kernel: kernel.time_range.start)
    gaps_between = defaultdict[tuple[str, str], list[float]](list)
    latest = itertools.accumulate(kernels, partial(max, key=lambda kernel: kernel.time_range.end))
    for last, kernel in zip(latest, kernels[1:], strict=False):
        gap = kernel.time_range.start - last.time_range.end
        if gap >= GAP_US:
            gaps_between[last.name[:80], kernel.name[:80]].append(gap / 1e6)
    rows: list[list[Any]] = [[*pair, len(gaps), sum(gaps)] for pair, gaps in gaps_between.items()]
    return sorted(rows, key=lambda row: -row[3])[:GAPS]


EngineCore.bench_notes, EngineCore.bench_profile_switch = take_notes, profile
