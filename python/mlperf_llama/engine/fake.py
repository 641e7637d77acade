"""An engine with scripted answers, delays and faults; needs no model and no GPU.

What its script may hold: fake_script.py.
"""

from __future__ import annotations

import asyncio
import heapq
import sys
import time
from array import array
from collections.abc import Mapping, Sequence
from itertools import count, cycle, islice
from typing import Any, TypeAlias

from .. import __version__
from ..errors import BrokeError, MissingError
from . import EngineInfo, Limits, Progress, Request, Sink, Tokens
from .fake_script import check_script

# The reference prompt puts about this many tokens before and after the article.
PROMPT_HEAD, PROMPT_TAIL = 27, 5
# Answers a turn of the loop; more would delay the other side's work.
BATCH = 512
# Answers that are kept for the next time the same prompt comes.
MOST_KEPT = 20_000
OUT_OF_MEMORY = (
    "INFO Available KV cache memory: -{} GiB\n"
    "ValueError: No available memory for the cache blocks, as the fake engine's script says.\n"
)

# due (loop time), order, is the last token, request, its sink, its answer
Event: TypeAlias = "tuple[float, int, bool, Request, Sink, array[int]]"


class FakeEngine:
    """One timer serves all requests, so that it costs little."""

    def __init__(self, script: Mapping[str, Any]) -> None:
        check_script(script)
        self._script = dict(script)
        self._ttft_s = script.get("ttft_ms", 0) / 1000
        self._tpot_s = script.get("tpot_ms", 0) / 1000
        self._busy_tpot_s: float = script.get("busy_tpot_ms", 0) / 1000
        self._in_service: list[float] = []
        self._slot_s = 1 / script["samples_per_s"] if "samples_per_s" in script else 0.0
        fault = script.get("fault")
        self._faults: dict[str, float] = fault if isinstance(fault, dict) else {}
        self._events: list[Event] = []
        self._order = count()
        self._queue_free = 0.0
        self._servers = [0.0] * int(script.get("concurrency", 0))
        self._timer: asyncio.Handle | None = None
        self._answered = self._tokens = 0
        self._fitted: dict[tuple[int, Limits], array[int]] = {}
        # By the prompt's place in memory, which the prompt itself keeps.
        self._echoed: dict[tuple[int, Limits], tuple[Tokens, array[int]]] = {}
        self._dead: Exception | None = None
        self._closed = False

    async def start(self, progress: Progress) -> EngineInfo:
        started = time.monotonic()
        fault = self._script.get("fault")
        progress("loading the fake engine")
        if fault == "missing":
            raise MissingError("fake engine: expected to find it, its script says it is missing")
        await asyncio.sleep(self._script.get("load_s", 0))
        if fault == "die_at_load":
            raise BrokeError("fake engine: died while loading, as its script says")
        if "out_of_memory" in self._faults:
            # vLLM's words, where it prints them.
            sys.stderr.write(OUT_OF_MEMORY.format(self._faults["out_of_memory"]))
            sys.stderr.flush()
            raise BrokeError("fake engine: could not load. See root cause above")
        return EngineInfo("fake", __version__, self._script, round(time.monotonic() - started, 3))

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        for request in requests:
            answer = self._answer(request.prompt, limits)
            first, last = self._times(now, len(answer))
            if streaming:
                heapq.heappush(self._events, (first, next(self._order), False, request, sink, answer))
            heapq.heappush(self._events, (last, next(self._order), True, request, sink, answer))
        self._wake(loop)

    def counters(self) -> dict[str, float]:
        return {"requests": float(self._answered), "generation_tokens": float(self._tokens)}

    async def refresh_counters(self) -> None:
        """Whoever hangs does not answer."""
        while self._hangs() and not self._closed:
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        self._closed = True
        self._events.clear()
        if self._timer:
            self._timer.cancel()

    def _times(self, now: float, tokens: int) -> tuple[float, float]:
        """When a request's first and last token are due, by the queue and the servers."""
        begin = now
        if self._slot_s:
            begin = self._queue_free = max(now, self._queue_free) + self._slot_s
        service = self._ttft_s + (self._tpot_s + self._slowed_by(begin)) * (tokens - 1)
        if self._servers:
            begin = max(begin, self._servers[0])
            heapq.heapreplace(self._servers, begin + service)
        if self._busy_tpot_s:
            heapq.heappush(self._in_service, begin + service)
        return begin + self._ttft_s, begin + service

    def _slowed_by(self, begin: float) -> float:
        """Seconds that the requests in service at `begin` add to each token."""
        if not self._busy_tpot_s:
            return 0.0
        while self._in_service and self._in_service[0] <= begin:
            heapq.heappop(self._in_service)
        return self._busy_tpot_s * len(self._in_service)

    def _answer(self, prompt: Tokens, limits: Limits) -> array[int]:
        """The same for the same prompt; ends with a stop id when shorter than the limit."""
        kept = self._echoed.get((id(prompt), limits))
        if kept is not None:
            return kept[1]
        length = max(limits.min_new_tokens, min(self._length(prompt, limits), limits.max_new_tokens))
        scripted = self._script.get("answer", "echo")
        if scripted == "echo":
            answer = _fit(prompt[PROMPT_HEAD:-PROMPT_TAIL] or prompt, length, limits)
            if len(self._echoed) >= MOST_KEPT:
                self._echoed.clear()
            self._echoed[id(prompt), limits] = prompt, answer
            return answer
        key = (length, limits)
        if key not in self._fitted:
            self._fitted[key] = _fit(scripted, length, limits)
        return self._fitted[key]

    def _length(self, prompt: Tokens, limits: Limits) -> int:
        wanted = self._script.get("output_tokens", limits.max_new_tokens)
        if isinstance(wanted, list):
            low, high = wanted
            return int(low + (sum(prompt[-64:]) + len(prompt)) % (high - low + 1))
        return int(wanted)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None
        if self._dead:
            self._timer = loop.call_soon(self._tell_death)
        elif self._events:
            due = self._events[0][0]
            soon = due <= loop.time()
            self._timer = loop.call_soon(self._turn) if soon else loop.call_at(due, self._turn)

    def _turn(self) -> None:
        """Deliver what is due, at most a batch of it."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        events = self._events
        for _ in range(BATCH):
            if not events or events[0][0] > now or self._broke():
                break
            _, _, last, request, sink, answer = heapq.heappop(events)
            if last:
                self._answered += 1
                self._tokens += len(answer)
                sink.completed(request.id, answer)
            else:
                sink.first_token(request.id, answer[0])
        if not self._hangs():
            self._wake(loop)

    def _hangs(self) -> bool:
        return bool(self._events) and self._answered >= self._faults.get("hang_at", self._answered + 1)

    def _broke(self) -> bool:
        if self._answered >= self._faults.get("die_at", self._answered + 1):
            self._dead = BrokeError(f"fake engine: died after {self._answered} answers, as its script says")
        return self._dead is not None or self._hangs()

    def _tell_death(self) -> None:
        assert self._dead
        sinks = {id(event[4]): event[4] for event in self._events}
        self._events.clear()
        for sink in sinks.values():
            sink.failed(self._dead)


def _fit(source: Sequence[int], length: int, limits: Limits) -> array[int]:
    """`length` tokens of `source`, repeated as need be, cut at a stop id as a model would stop."""
    stops = limits.stop_ids
    answer = array("i", source[:length])
    if len(answer) < length:
        answer = array("i", islice(cycle(source), length))
    if not set(stops).isdisjoint(answer):
        first = min(answer.index(stop) for stop in stops if stop in answer)
        length = max(limits.min_new_tokens, first + 1)
    if length < limits.max_new_tokens and stops:
        answer[length - 1] = stops[0]
        del answer[length:]
    return answer
