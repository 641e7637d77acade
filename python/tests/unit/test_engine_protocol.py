"""What every engine has to do. An engine joins by a line in ENGINES."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest
from loadgen_support import LIMITS, Prompts

from mlperf_llama.engine import Engine, Limits, Request, Tokens
from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.errors import BrokeError, MissingError, UsageError

ENGINES: dict[str, Callable[[], Engine]] = {
    "fake": lambda: FakeEngine({"output_tokens": [2, 40], "ttft_ms": 2, "tpot_ms": 0.1, "concurrency": 4}),
    "fake-instant": lambda: FakeEngine({}),
}
engines = pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES.keys())


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


@engines
@pytest.mark.parametrize("streaming", [False, True])
def test_every_request_is_answered_once_within_the_limits(
    make: Callable[[], Engine], streaming: bool
) -> None:
    async def body() -> None:
        engine = make()
        info = await engine.start(lambda text: None)
        assert info.name
        assert info.load_s >= 0
        sink = await answer(engine, requests(20), LIMITS, streaming)
        await engine.close()
        assert sorted(sink.answers) == list(range(20))
        for request_id, tokens in sink.answers.items():
            assert LIMITS.min_new_tokens <= len(tokens) <= LIMITS.max_new_tokens
            assert not set(tokens[:-1]) & set(LIMITS.stop_ids)
            assert len(tokens) == LIMITS.max_new_tokens or tokens[-1] in LIMITS.stop_ids
            if streaming:
                assert sink.first[request_id] == tokens[0]
                assert sink.log.index(("first", request_id)) < sink.log.index(("completed", request_id))
        assert streaming or not sink.first

    asyncio.run(body())


@engines
def test_the_same_prompt_gets_the_same_answer_in_any_batch(make: Callable[[], Engine]) -> None:
    async def body() -> None:
        engine = make()
        await engine.start(lambda text: None)
        together = await answer(engine, requests(6), LIMITS, streaming=False)
        alone = [await answer(engine, [request], LIMITS, streaming=True) for request in requests(6, 100)]
        await engine.close()
        assert [together.answers[i] for i in range(6)] == [alone[i].answers[100 + i] for i in range(6)]

    asyncio.run(body())


@engines
def test_limits_are_the_request_s_own(make: Callable[[], Engine]) -> None:
    async def body() -> None:
        engine = make()
        await engine.start(lambda text: None)
        for count in (1, 5):
            sink = await answer(engine, requests(3), Limits(count, count, LIMITS.stop_ids), streaming=False)
            assert {len(tokens) for tokens in sink.answers.values()} == {count}
        await engine.close()

    asyncio.run(body())


@engines
def test_no_requests_and_two_closes_are_harmless(make: Callable[[], Engine]) -> None:
    async def body() -> None:
        engine = make()
        await engine.start(lambda text: None)
        await answer(engine, [], LIMITS, streaming=True)
        assert all(isinstance(value, float) for value in engine.counters().values())
        sink = Collector(3)
        engine.submit(requests(3), LIMITS, False, sink)
        await engine.close()
        await engine.close()
        await asyncio.sleep(0.05)
        assert not sink.ended.done() or sink.ended.exception() or len(sink.answers) == 3

    asyncio.run(body())


def start_fake(script: dict[str, object]) -> None:
    asyncio.run(FakeEngine(script).start(lambda text: None))


def test_fake_faults_while_loading() -> None:
    with pytest.raises(MissingError, match="says it is missing"):
        start_fake({"fault": "missing"})
    with pytest.raises(BrokeError, match="died while loading"):
        start_fake({"fault": "die_at_load"})


def test_fake_dies_and_stays_dead() -> None:
    async def body() -> None:
        engine = FakeEngine({"fault": {"die_at": 3}})
        for _ in range(2):
            sink = Collector(10)
            engine.submit(requests(10), LIMITS, False, sink)
            with pytest.raises(BrokeError, match="died after 3 answers"):
                await asyncio.wait_for(sink.ended, 5)
        assert engine.counters()["requests"] == 3

    asyncio.run(body())


def test_fake_hangs_after_n_answers() -> None:
    async def body() -> None:
        engine = FakeEngine({"fault": {"hang_at": 3}})
        sink = Collector(10)
        engine.submit(requests(10), LIMITS, False, sink)
        await asyncio.sleep(0.1)
        assert len(sink.answers) == 3
        assert not sink.ended.done()

    asyncio.run(body())


def test_fake_keeps_its_pace_and_its_service_times() -> None:
    async def seconds(script: Mapping[str, object], count: int) -> float:
        engine, loop = FakeEngine(script), asyncio.get_running_loop()
        start = loop.time()
        await answer(engine, requests(count), LIMITS, streaming=True)
        return loop.time() - start

    async def body() -> None:
        assert 0.2 <= await seconds({"samples_per_s": 100}, 20) < 2
        # 12 requests of 10 + 9 x 1 ms, 4 at a time: three rounds.
        service = {"ttft_ms": 10, "tpot_ms": 1, "output_tokens": 10, "concurrency": 4}
        assert 0.057 <= await seconds(service, 12) < 2

    asyncio.run(body())


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ({"speed": 1}, "expected keys among .* found 'speed'"),
        ({"ttft_ms": -1}, "ttft_ms: expected a number of 0 or more, found -1"),
        ({"concurrency": 0}, "concurrency: expected a number above 0"),
        ({"output_tokens": [5, 2]}, "output_tokens: expected a count or"),
        ({"answer": []}, "answer: expected"),
        ({"fault": {"die": 3}}, "fault: expected"),
    ],
)
def test_fake_script_is_checked(script: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FakeEngine(script)


def test_fake_scripted_answer_repeats_and_stops() -> None:
    async def body() -> None:
        plain = await answer(
            FakeEngine({"answer": [5, 6, 7], "output_tokens": 5}), requests(1), LIMITS, False
        )
        assert plain.answers[0] == [5, 6, 7, 5, LIMITS.stop_ids[0]]
        stop = LIMITS.stop_ids[1]
        stopped = await answer(FakeEngine({"answer": [5, stop, 7]}), requests(1), LIMITS, False)
        assert stopped.answers[0] == [5, LIMITS.stop_ids[0]]

    asyncio.run(body())
