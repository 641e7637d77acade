"""Members that die, hang or are cut off: named, within seconds, in every kind of run."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from engine_contract import Collector, requests
from loadgen_support import LIMITS
from replica_support import SCRIPT, SLOW, Workers, fake_settings, started

from mlperf_llama.engine.replicas.head import ReplicaEngine
from mlperf_llama.errors import BrokeError

pytestmark = pytest.mark.slow


def kill(launcher: Workers, engine: ReplicaEngine) -> None:
    os.killpg(launcher.processes[1].pid, signal.SIGKILL)


def stop(launcher: Workers, engine: ReplicaEngine) -> None:
    os.killpg(launcher.processes[1].pid, signal.SIGSTOP)


def cut(launcher: Workers, engine: ReplicaEngine) -> None:
    engine.members[1].abort()


async def run_begun(
    engine: ReplicaEngine, count: int, *, streaming: bool = False, redispatch: bool
) -> Collector:
    """A run with all its requests under way; what collects their answers."""
    await engine.begin_run(redispatch=redispatch)
    sink = Collector(count)
    engine.submit(requests(count), LIMITS, streaming, sink)
    return sink


Harm = Callable[[Workers, ReplicaEngine], None]
# What is done to member 1, what is said of it, and within how many seconds.
HARMS: dict[str, tuple[Harm, str, float]] = {
    "kill": (kill, "member 1 on .*, GPU 1: ended with code -9", 2),
    "stop": (stop, "member 1 on .*, GPU 1: gave no sign for 5 s", 8),
    "cut": (cut, "member 1 on .*, GPU 1: (its connection ended|ended with code 4)", 3),
}
pull_and_push = pytest.mark.parametrize("streaming", [False, True], ids=["pull", "push"])


@pytest.mark.parametrize(("harm", "message", "limit_s"), HARMS.values(), ids=HARMS.keys())
@pull_and_push
def test_a_lost_member_ends_a_performance_run(
    harm: Harm, message: str, limit_s: float, streaming: bool
) -> None:
    async def body() -> None:
        launcher = Workers()
        async with started(3, SLOW, launcher) as engine:
            sink = await run_begun(engine, 2000, streaming=streaming, redispatch=False)
            await asyncio.sleep(0.4)
            harm(launcher, engine)
            began = time.monotonic()
            with pytest.raises(BrokeError, match=message):
                await asyncio.wait_for(sink.ended, 20)
            assert time.monotonic() - began < limit_s
            later = Collector(1)
            engine.submit(requests(1, 5000), LIMITS, streaming, later)
            with pytest.raises(BrokeError, match=message):
                await asyncio.wait_for(later.ended, 1)
        assert all(process.poll() is not None for process in launcher.processes.values())

    asyncio.run(body())


@pytest.mark.parametrize("harm", [harm for harm, _, _ in HARMS.values()], ids=HARMS.keys())
@pull_and_push
def test_an_accuracy_run_goes_on_without_a_lost_member(harm: Harm, streaming: bool) -> None:
    async def body() -> None:
        launcher, told = Workers(), []
        async with started(3, {**SLOW, "concurrency": 16}, launcher) as engine:
            engine.on_loss = told.append
            sink = await run_begun(engine, 400, streaming=streaming, redispatch=True)
            await asyncio.sleep(0.4)
            harm(launcher, engine)
            await asyncio.wait_for(sink.ended, 60)
            assert sorted(sink.answers) == list(range(400))
            assert not streaming or sorted(sink.first) == list(range(400))
            losses = engine.take_losses()
            assert told == losses and len(losses) == 1
            assert losses[0].member == 1 and losses[0].unfinished > 0
            assert engine.take_losses() == []
            with pytest.raises(BrokeError, match=r"member 1 on .*a performance run needs every member"):
                await engine.begin_run(redispatch=False)

    asyncio.run(body())


def test_an_accuracy_run_ends_when_the_others_die_too() -> None:
    async def body() -> None:
        launcher = Workers()
        async with started(2, SLOW, launcher) as engine:
            sink = await run_begun(engine, 500, redispatch=True)
            for index in (1, 0):
                await asyncio.sleep(0.3)
                os.killpg(launcher.processes[index].pid, signal.SIGKILL)
            with pytest.raises(BrokeError, match=r"member 0 on"):
                await asyncio.wait_for(sink.ended, 10)

    asyncio.run(body())


def test_who_dies_after_another_is_named_for_itself() -> None:
    """While it is asked something between two runs."""

    async def body() -> None:
        launcher = Workers()
        async with started(3, SLOW, launcher) as engine:
            sink = await run_begun(engine, 60, redispatch=True)
            kill(launcher, engine)
            await asyncio.wait_for(sink.ended, 60)
            assert [loss.member for loss in engine.take_losses()] == [1]
            os.killpg(launcher.processes[2].pid, signal.SIGSTOP)
            asked = asyncio.ensure_future(engine.refresh_counters())
            await asyncio.sleep(0.1)
            os.killpg(launcher.processes[2].pid, signal.SIGKILL)
            with pytest.raises(BrokeError, match=r"^member 2 on .*, GPU 2: ended with code -9"):
                await asyncio.wait_for(asked, 10)

    asyncio.run(body())


@pytest.mark.parametrize("again", [False, True], ids=["performance", "accuracy"])
@pull_and_push
def test_an_engine_that_hangs_in_a_process_that_lives(again: bool, streaming: bool) -> None:
    """Its member goes on to beat, and says that the engine does not answer."""
    script = {**SLOW, "concurrency": 16, "fault": {"hang_at": 8}, "member": 1}

    async def body() -> None:
        launcher = Workers()
        hanging = replace(fake_settings(script), engine_silence_s=1.5)
        async with started(3, script, launcher, hanging) as engine:
            began = time.monotonic()
            sink = await run_begun(engine, 200, streaming=streaming, redispatch=again)
            if again:
                await asyncio.wait_for(sink.ended, 60)
                assert sorted(sink.answers) == list(range(200))
                (loss,) = engine.take_losses()
                assert loss.member == 1 and loss.cause.startswith("its engine gave no sign for 1.5 s")
            else:
                message = r"^member 1 on .*, GPU 1: its engine gave no sign for 1.5 s and has \d+ requests"
                with pytest.raises(BrokeError, match=message):
                    await asyncio.wait_for(sink.ended, 60)
                # Beats come once a second, the head looks twice a second.
                assert time.monotonic() - began < 6
            assert launcher.processes[1].poll() is None or again
        assert all(process.poll() is not None for process in launcher.processes.values())

    asyncio.run(body())


def test_a_dead_engine_s_words_arrive() -> None:
    async def body() -> None:
        async with started(3, {**SCRIPT, "fault": {"die_at": 20}, "member": 2}) as engine:
            sink = Collector(500)
            engine.submit(requests(500), LIMITS, False, sink)
            with pytest.raises(BrokeError, match=r"member 2 on .*died after 20 answers, as its script says"):
                await asyncio.wait_for(sink.ended, 10)

    asyncio.run(body())
