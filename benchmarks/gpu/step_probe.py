"""What each step costs in the engine's process, on the host and on the GPU; and other weights in place.

Utilities of vLLM's engine core, called from compare_models.py. Imported through `scheduler_cls`, in the
process that also holds the worker where one GPU is used.
"""

from __future__ import annotations

import functools
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch
from engine_probe import Async, Sync
from vllm.v1.engine.core import EngineCore

__all__ = ["Async", "Sync"]

# Of a step: when it was scheduled, what it holds, host seconds, when the GPU was at it.
# Times count from `Watch.began`, in seconds.
COLUMNS = (
    "at", "tokens", "sequences", "prompts", "waiting", "schedule_s", "execute_s", "sample_s", "update_s",
    "gpu_begin", "gpu_end",
)  # fmt: skip


def _runner(core: EngineCore) -> Any:
    return core.model_executor.driver_worker.worker.model_runner


class Watch:
    """Wraps the scheduler's and the model runner's methods of one engine; a row for each step."""

    def __init__(self, core: EngineCore) -> None:
        self._rows: list[dict[str, Any]] = []
        self._scheduler, runner = core.scheduler, _runner(core)
        self._on_gpu = torch.cuda.is_available()
        self._gc_began = self.gc_s = self.gc_longest_s = 0.0
        self._schedule = core.scheduler.schedule
        core.scheduler.schedule = self._scheduled
        self._time(core.scheduler, "update_from_output", "update_s")
        self._time(runner, "execute_model", "execute_s")
        self._time(runner, "sample_tokens", "sample_s", self._end)
        # The last call before the forward pass, in vLLM's second model runner and in its first.
        holder, name = (
            (runner.model_state, "prepare_inputs")
            if hasattr(runner, "model_state")
            else (runner, "_model_forward")
        )
        self._before(holder, name)
        gc.callbacks.append(self._collected)
        self.clear()

    def clear(self) -> None:
        """Forget all rows; the GPU's clock and the host's begin together."""
        self._rows = []
        self.gc_s = self.gc_longest_s = 0.0
        if self._on_gpu:
            torch.cuda.synchronize()
            self._base = torch.cuda.Event(enable_timing=True)
            self._base.record()
            torch.cuda.synchronize()
        self.began = time.perf_counter()

    def columns(self) -> dict[str, list[float]]:
        """All steps since `clear`."""
        if self._on_gpu:
            torch.cuda.synchronize()
        rows = [row for row in self._rows if "gpu_begin" in row and "gpu_end" in row]
        for row in rows:
            for name in ("gpu_begin", "gpu_end"):
                row[name] = self._seconds(row[name])
        return {name: [float(row.get(name, 0.0)) for row in rows] for name in COLUMNS}

    def _seconds(self, mark: Any) -> float:
        if self._on_gpu:
            return float(self._base.elapsed_time(mark)) / 1000
        return float(mark - self.began)

    def _mark(self) -> Any:
        if not self._on_gpu:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _scheduled(self, *given: Any, **more: Any) -> Any:
        began = time.perf_counter()
        output = self._schedule(*given, **more)
        tokens = output.num_scheduled_tokens
        if tokens:
            row = {
                "at": began - self.began,
                "tokens": output.total_num_scheduled_tokens,
                "sequences": len(tokens),
                "prompts": sum(count > 1 for count in tokens.values()),
                "waiting": len(self._scheduler.waiting),
                "schedule_s": time.perf_counter() - began,
            }
            self._rows.append(row)
        return output

    def _time(self, owner: Any, name: str, column: str, after: Callable[[], None] | None = None) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        def timed(*given: Any, **more: Any) -> Any:
            began = time.perf_counter()
            result = method(*given, **more)
            if self._rows:
                self._rows[-1][column] = self._rows[-1].get(column, 0.0) + time.perf_counter() - began
                if after is not None:
                    after()
            return result

        setattr(owner, name, timed)

    def _before(self, owner: Any, name: str) -> None:
        method = getattr(owner, name)

        @functools.wraps(method)
        def marked(*given: Any, **more: Any) -> Any:
            prepared = method(*given, **more) if name == "prepare_inputs" else None
            if self._rows:
                self._rows[-1].setdefault("gpu_begin", self._mark())
            return prepared if name == "prepare_inputs" else method(*given, **more)

        setattr(owner, name, marked)

    def _end(self) -> None:
        self._rows[-1].setdefault("gpu_end", self._mark())

    def _collected(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._gc_began = time.perf_counter()
            return
        seconds = time.perf_counter() - self._gc_began
        self.gc_s += seconds
        self.gc_longest_s = max(self.gc_longest_s, seconds)


def watch(core: EngineCore) -> float:
    """Utility: begin anew; the clock's zero, as time.perf_counter gives it in every process."""
    if not hasattr(core, "bench_watch"):
        core.bench_watch = Watch(core)
    core.bench_watch.clear()
    core.bench_cpu = (time.process_time(), time.thread_time())
    return float(core.bench_watch.began)


def take_steps(core: EngineCore) -> dict[str, Any]:
    """Utility: the steps since `watch`; CPU seconds of the process and of this thread; collections."""
    process, main = core.bench_cpu
    spent = {
        "process_s": time.process_time() - process,
        "main_s": time.thread_time() - main,
        "gc_s": core.bench_watch.gc_s,
        "gc_longest_s": core.bench_watch.gc_longest_s,
        "threads": threading.active_count(),
    }
    return {"columns": core.bench_watch.columns(), "spent": spent}


def pin(core: EngineCore, cpus: list[int], collect: bool, alone: bool) -> None:
    """Utility: the process on `cpus`, with `alone` this thread on the first and the others on the rest;
    garbage collection on or off."""
    for thread in psutil.Process().threads():
        rest = cpus[1:] or cpus
        own = thread.id == threading.get_native_id()
        os.sched_setaffinity(thread.id, (cpus[:1] if own else rest) if alone else cpus)
    gc.collect()
    (gc.enable if collect else gc.disable)()


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's memory as it lies: [rows, columns] or less, contiguous; FP8 as bytes."""
    flat = tensor if tensor.is_contiguous() else tensor.t()
    if not flat.is_contiguous():
        raise ValueError(f"expected a contiguous tensor or transpose, found strides {tensor.stride()}")
    return flat.view(torch.uint8) if flat.element_size() == 1 else flat


def _tensors(core: EngineCore) -> dict[str, torch.Tensor]:
    """Weights and scales of the loaded model, by name."""
    state = _runner(core).get_model().state_dict()
    return {name: _flat(tensor.data) for name, tensor in state.items() if tensor.device.type != "meta"}


def use_weights(core: EngineCore, kind: str) -> float:
    """Utility: `loaded` (as they came), `shuffled` (rows and columns of each matrix, at random) or `random`.

    In place, so that graphs and caches stay. Returns the seconds it took.
    """
    began = time.perf_counter()
    with torch.inference_mode():
        _put(core, kind)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _put(core: EngineCore, kind: str) -> None:
    tensors = _tensors(core)
    if not hasattr(core, "bench_loaded"):
        pinned = torch.cuda.is_available()
        core.bench_loaded = {
            name: torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=pinned).copy_(tensor)
            for name, tensor in tensors.items()
        }
    for name, tensor in tensors.items():
        tensor.copy_(core.bench_loaded[name], non_blocking=True)
    if kind == "shuffled":
        _shuffle(tensors)
    elif kind == "random":
        _fill(core)
    elif kind != "loaded":
        raise ValueError(f"expected loaded, shuffled or random, found {kind!r}")


def _shuffle(tensors: dict[str, torch.Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dim() == 2 and "proj" in name:
            rows, columns = (torch.randperm(n, device=tensor.device) for n in tensor.shape)
            tensor.copy_(tensor[rows][:, columns])


def _fill(core: EngineCore) -> None:
    """As `MODEL=random-fp8` is filled, by the same function."""
    from mlperf_llama.engine import random_weights

    for name, tensor in _runner(core).get_model().state_dict().items():
        flat = tensor.data if tensor.is_contiguous() else tensor.data.t()
        random_weights.fill(flat, name=name)


EngineCore.bench_watch_steps, EngineCore.bench_take_steps = watch, take_steps
EngineCore.bench_pin, EngineCore.bench_use_weights = pin, use_weights
