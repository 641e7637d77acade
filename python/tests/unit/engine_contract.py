"""What every engine has to do: checks that take a started engine.

The fake engine passes them in tests/unit, vLLM in tests/integration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from loadgen_support import LIMITS, Prompts

from mlperf_llama.engine import Engine, Limits, Request, Tokens


class Collector:
    """A sink that keeps what comes and knows when `expected` answers are there."""

    def __init__(self, expected: int) -> None:
        self.first: dict[int, int] = {}
        self.answers: dict[int, list[int]] = {}
        self.log: list[tuple[str, int]] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._expected = expected
        if not expected:
            self.ended.set_result(None)

    def first_token(self, request_id: int, token: int) -> None:
        assert request_id not in self.first
        self.first[request_id] = token
        self.log.append(("first", request_id))

    def completed(self, request_id: int, tokens: Tokens) -> None:
        assert request_id not in self.answers
        self.answers[request_id] = list(tokens)
        self.log.append(("completed", request_id))
        if len(self.answers) == self._expected:
            self.ended.set_result(None)

    def failed(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


def requests(count: int, start: int = 0) -> list[Request]:
    prompts = Prompts(count)
    return [Request(start + i, prompts.prompt(i)) for i in range(count)]


async def answer(engine: Engine, batch: Sequence[Request], limits: Limits, streaming: bool) -> Collector:
    sink = Collector(len(batch))
    engine.submit(batch, limits, streaming, sink)
    assert not sink.log, "submit returns before the first answer"
    await asyncio.wait_for(sink.ended, 60)
    return sink


async def answers_once_within_the_limits(engine: Engine, limits: Limits, streaming: bool) -> None:
    """Every request is answered once, within its limits, first token first."""
    sink = await answer(engine, requests(20), limits, streaming)
    assert sorted(sink.answers) == list(range(20))
    for request_id, tokens in sink.answers.items():
        assert limits.min_new_tokens <= len(tokens) <= limits.max_new_tokens
        assert not set(tokens[:-1]) & set(limits.stop_ids)
        assert len(tokens) == limits.max_new_tokens or tokens[-1] in limits.stop_ids
        if streaming:
            assert sink.first[request_id] == tokens[0]
            assert sink.log.index(("first", request_id)) < sink.log.index(("completed", request_id))
    assert streaming or not sink.first


async def answers_alike_in_any_batch(engine: Engine, limits: Limits) -> None:
    together = await answer(engine, requests(6), limits, streaming=False)
    alone = [await answer(engine, [request], limits, streaming=True) for request in requests(6, 100)]
    assert [together.answers[i] for i in range(6)] == [alone[i].answers[100 + i] for i in range(6)]


async def keeps_each_request_s_limits(engine: Engine, limits: Limits) -> None:
    for count in (1, 5):
        sink = await answer(engine, requests(3), Limits(count, count, limits.stop_ids), streaming=False)
        assert {len(tokens) for tokens in sink.answers.values()} == {count}


async def closes_twice_with_requests_under_way(engine: Engine, limits: Limits) -> None:
    await answer(engine, [], limits, streaming=True)
    assert all(isinstance(value, (int, float)) for value in engine.counters().values())
    sink = Collector(3)
    engine.submit(requests(3), limits, False, sink)
    await engine.close()
    await engine.close()
    await asyncio.sleep(0.05)
    assert not sink.ended.done() or sink.ended.exception() or len(sink.answers) == 3


CHECKS: dict[str, Callable[[Engine], Awaitable[None]]] = {
    "final": lambda e: answers_once_within_the_limits(e, LIMITS, False),
    "streaming": lambda e: answers_once_within_the_limits(e, LIMITS, True),
    "batches": lambda e: answers_alike_in_any_batch(e, LIMITS),
    "limits": lambda e: keeps_each_request_s_limits(e, LIMITS),
    "close": lambda e: closes_twice_with_requests_under_way(e, LIMITS),
}
