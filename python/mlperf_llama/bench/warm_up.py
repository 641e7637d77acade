"""Warm-up: made-up prompts that touch every shape, and the speed seen on the way."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

from ..engine import Engine, Limits, Request, Tokens
from ..errors import BrokeError

# No warm-up takes longer than this; an engine that does is hung.
LONGEST_S = 1200.0


class Collector:
    """A sink for made-up prompts; `missing`: answers that are still to come."""

    def __init__(self, count: int) -> None:
        self.missing = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def first_token(self, request_id: int, token: int) -> None:
        pass

    def completed(self, request_id: int, tokens: Tokens) -> None:
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)

    def failed(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(BrokeError(f"the engine died during warm-up: {error}"))


def made_up_prompts(lengths: Sequence[int], count: int, vocabulary: int, seed: int) -> list[list[int]]:
    """Random token ids with lengths drawn from the dataset's: the rules allow no real prompt here."""
    draw = random.Random(seed)
    low = min(1000, vocabulary // 2)
    return [[draw.randrange(low, vocabulary) for _ in range(draw.choice(lengths))] for _ in range(count)]


async def answer_all(engine: Engine, prompts: Sequence[Tokens], limits: Limits) -> float:
    """Submit every prompt at once and wait; seconds it took. BrokeError: the engine died, or hangs."""
    sink = Collector(len(prompts))
    started = time.monotonic()
    engine.submit([Request(i, p) for i, p in enumerate(prompts)], limits, False, sink)
    try:
        await asyncio.wait_for(sink.done, LONGEST_S)
    except TimeoutError:
        raise BrokeError(
            f"engine: expected {len(prompts)} warm-up answers within {LONGEST_S:g} s, "
            f"{sink.missing} are missing"
        ) from None
    return time.monotonic() - started


@dataclass(frozen=True)
class Speed:
    """What the warm-up measured, to plan runs by: never a result."""

    samples_per_s: float
    latency_ms: float
