"""What every engine has to do, asked of the fake one; and what only a fake can do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest
from engine_contract import CHECKS, Collector, answer, requests
from loadgen_support import LIMITS

from mlperf_llama.engine import Engine
from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.errors import BrokeError, MissingError, UsageError

ENGINES: dict[str, Callable[[], Engine]] = {
    "fake": lambda: FakeEngine({"output_tokens": [2, 40], "ttft_ms": 2, "tpot_ms": 0.1, "concurrency": 4}),
    "fake-instant": lambda: FakeEngine({}),
}


@pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES.keys())
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
def test_contract(make: Callable[[], Engine], check: Callable[[Engine], Awaitable[None]]) -> None:
    async def body() -> None:
        engine = make()
        info = await engine.start(lambda text: None)
        assert info.name
        assert info.load_s >= 0
        await check(engine)
        await engine.close()

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
