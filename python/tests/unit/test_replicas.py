"""Several engines behind one protocol: real worker processes with the fake engine, over loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path

import engine_contract
import pytest
from engine_contract import CHECKS, Collector, requests
from loadgen_support import COMBINATIONS, LIMITS
from replica_support import SCRIPT, SLOW, run_every_mode, started

from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.errors import BrokeError
from mlperf_llama.loadgen import accuracy_log, logs

pytestmark = pytest.mark.slow


def test_contract() -> None:
    async def body() -> None:
        async with started(3, SCRIPT) as engine:
            for check in CHECKS.values():
                await check(engine)

    asyncio.run(body())


@pytest.mark.parametrize(("category", "scenario"), COMBINATIONS)
def test_every_scenario_and_mode(category: str, scenario: str, tmp_path: Path) -> None:
    async def body() -> None:
        async with started(3, SCRIPT) as engine:
            await run_every_mode(engine, category, scenario, tmp_path)
            await engine.refresh_counters()
            counts = [member.counters["requests"] for member in engine.members.values()]
            assert min(counts) > 0
            assert engine.counters()["requests"] == sum(counts)

    asyncio.run(body())
    answered = [r.index for r in accuracy_log.read(tmp_path / "accuracy" / logs.ACCURACY)]
    assert sorted(answered) == list(range(24))


def test_members_answer_as_one_engine_would() -> None:
    async def body() -> None:
        batch = requests(60)
        alone = await engine_contract.answer(FakeEngine(SCRIPT), batch, LIMITS, streaming=False)
        async with started(3, SCRIPT) as engine:
            for streaming in (False, True):
                together = await engine_contract.answer(engine, batch, LIMITS, streaming)
                assert together.answers == alone.answers

    asyncio.run(body())


def test_two_requests_of_one_id_are_refused() -> None:
    async def body() -> None:
        async with started(2, SLOW) as engine:
            first, second = Collector(20), Collector(20)
            engine.submit(requests(20), LIMITS, False, first)
            engine.submit(requests(20), LIMITS, False, second)
            with pytest.raises(BrokeError, match="two requests under way have one id"):
                await asyncio.wait_for(second.ended, 1)
            await asyncio.wait_for(first.ended, 20)

    asyncio.run(body())


@pytest.mark.parametrize("streaming", [False, True], ids=["pull", "push"])
def test_one_member_answers_for_all(streaming: bool) -> None:
    """As in a search, and all of them again."""

    async def body() -> None:
        async with started(3, SCRIPT) as engine:
            for count, answering in ((1, 1), (None, 3)):
                engine.use_members(count)
                await engine.set_limits(4, None)
                before = {index: member.answered for index, member in engine.members.items()}
                await engine_contract.answer(engine, requests(60), LIMITS, streaming)
                answered = [member.answered - before[index] for index, member in engine.members.items()]
                assert sum(answered) == 60
                assert sum(count > 0 for count in answered) == answering

    asyncio.run(body())


def test_like_members_share_the_queue() -> None:
    async def body() -> None:
        async with started(3, {"samples_per_s": 300, "concurrency": 8}) as engine:
            sink = Collector(600)
            engine.submit(requests(600), LIMITS, False, sink)
            await asyncio.wait_for(sink.ended, 30)
            await engine.refresh_counters()
            counts = [member.counters["requests"] for member in engine.members.values()]
            assert max(counts) - min(counts) <= 40

    asyncio.run(body())
