"""Several engines behind one protocol: real worker processes with the fake engine, over loopback."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import engine_contract
import pytest
from engine_contract import Collector, requests
from loadgen_support import COMBINATIONS, LIMITS, Prompts, plan_of, run_plan
from replica_support import Workers, fake_settings, replicas, specs, started

from mlperf_llama import rules
from mlperf_llama.engine import Engine
from mlperf_llama.engine.replicas import watch, wire
from mlperf_llama.engine.replicas.head import ReplicaEngine
from mlperf_llama.engine.replicas.protocol import HeadAddress, MemberSpec
from mlperf_llama.engine.replicas.router import TokenRouter
from mlperf_llama.errors import BrokeError, MissingError
from mlperf_llama.loadgen import accuracy_log, logs

pytestmark = pytest.mark.slow

SCRIPT: dict[str, object] = {"output_tokens": [2, 40], "ttft_ms": 2, "tpot_ms": 0.1, "concurrency": 4}
SLOW: dict[str, object] = {"output_tokens": 20, "ttft_ms": 20, "tpot_ms": 10, "concurrency": 4}
CHECKS: dict[str, Callable[[Engine], Awaitable[None]]] = {
    "final": lambda e: engine_contract.answers_once_within_the_limits(e, LIMITS, False),
    "streaming": lambda e: engine_contract.answers_once_within_the_limits(e, LIMITS, True),
    "batches": lambda e: engine_contract.answers_alike_in_any_batch(e, LIMITS),
    "limits": lambda e: engine_contract.keeps_each_request_s_limits(e, LIMITS),
    "close": lambda e: engine_contract.closes_twice_with_requests_under_way(e, LIMITS),
}


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
            for mode in rules.MODES:
                await engine.begin_run(redispatch=mode == "accuracy")
                plan = plan_of(scenario, mode, category=category, samples=24)
                result = await run_plan(engine, plan, tmp_path / mode)
                assert result.errors == logs.read_detail(tmp_path / mode).errors == ()
                assert result.samples == plan.expected_queries
                if mode == "performance":
                    assert logs.read_detail(tmp_path / mode).validity == "VALID"
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
        alone = await engine_contract.answer(replicas_of_one(), batch, LIMITS, streaming=False)
        async with started(3, SCRIPT) as engine:
            for streaming in (False, True):
                together = await engine_contract.answer(engine, batch, LIMITS, streaming)
                assert together.answers == alone.answers

    asyncio.run(body())


def replicas_of_one() -> Engine:
    from mlperf_llama.engine.fake import FakeEngine

    return FakeEngine(SCRIPT)


def kill(launcher: Workers, engine: ReplicaEngine) -> None:
    os.killpg(launcher.processes[1].pid, signal.SIGKILL)


def stop(launcher: Workers, engine: ReplicaEngine) -> None:
    os.killpg(launcher.processes[1].pid, signal.SIGSTOP)


def cut(launcher: Workers, engine: ReplicaEngine) -> None:
    engine.members[1].abort()


HARMS: dict[str, tuple[Callable[[Workers, ReplicaEngine], None], str, float]] = {
    "kill": (kill, "member 1 on .*, GPU 1: ended with code -9", 2),
    "stop": (stop, "member 1 on .*, GPU 1: gave no sign for 5 s", 8),
    "cut": (cut, "member 1 on .*, GPU 1: (its connection ended|ended with code 4)", 3),
}


@pytest.mark.parametrize(("harm", "message", "limit_s"), HARMS.values(), ids=HARMS.keys())
@pytest.mark.parametrize("streaming", [False, True], ids=["pull", "push"])
def test_a_lost_member_ends_a_performance_run(
    harm: Callable[[Workers, ReplicaEngine], None], message: str, limit_s: float, streaming: bool
) -> None:
    async def body() -> None:
        launcher = Workers()
        async with started(3, SLOW, launcher) as engine:
            await engine.begin_run(redispatch=False)
            sink = Collector(2000)
            engine.submit(requests(2000), LIMITS, streaming, sink)
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


@pytest.mark.parametrize(("harm", "message", "limit_s"), HARMS.values(), ids=HARMS.keys())
@pytest.mark.parametrize("streaming", [False, True], ids=["pull", "push"])
def test_an_accuracy_run_goes_on_without_a_lost_member(
    harm: Callable[[Workers, ReplicaEngine], None], message: str, limit_s: float, streaming: bool
) -> None:
    async def body() -> None:
        launcher, told = Workers(), []
        async with started(3, {**SLOW, "concurrency": 16}, launcher) as engine:
            engine.on_loss = told.append
            await engine.begin_run(redispatch=True)
            batch = requests(400)
            sink = Collector(400)
            engine.submit(batch, LIMITS, streaming, sink)
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
            await engine.begin_run(redispatch=True)
            sink = Collector(500)
            engine.submit(requests(500), LIMITS, False, sink)
            for index in (1, 0):
                await asyncio.sleep(0.3)
                os.killpg(launcher.processes[index].pid, signal.SIGKILL)
            with pytest.raises(BrokeError, match=r"member 0 on"):
                await asyncio.wait_for(sink.ended, 10)

    asyncio.run(body())


def test_a_dead_engine_s_words_arrive() -> None:
    async def body() -> None:
        async with started(3, {**SCRIPT, "fault": {"die_at": 20}, "member": 2}) as engine:
            sink = Collector(500)
            engine.submit(requests(500), LIMITS, False, sink)
            with pytest.raises(BrokeError, match=r"member 2 on .*died after 20 answers, as its script says"):
                await asyncio.wait_for(sink.ended, 10)

    asyncio.run(body())


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("die_at_load", BrokeError, "member 1 on .*: fake engine: died while loading"),
        ("missing", MissingError, "member 1 on .*: fake engine: expected to find it"),
    ],
)
def test_a_failed_load_is_named(fault: str, error: type[Exception], message: str) -> None:
    async def body() -> None:
        with pytest.raises(error, match=message):
            async with started(3, {"fault": fault, "member": 1}):
                pass

    asyncio.run(body())


def test_who_never_comes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "CONNECT_S", 2.0)

    async def body() -> None:
        with pytest.raises(BrokeError, match=r"connect within 2 s; missing: member 1 on .*, GPU 1$"):
            async with started(3, SCRIPT, Workers(absent=[1])):
                pass

    asyncio.run(body())


def test_who_ends_before_it_connects_is_named() -> None:
    class Dying(Workers):
        async def start(self, members: list[MemberSpec], head: HeadAddress) -> None:  # type: ignore[override]
            wrong = HeadAddress(head.host, head.port, "x" * 20)
            await super().start(members, wrong)

    async def body() -> None:
        launcher = Dying()
        with pytest.raises(BrokeError, match=r"member 0 on .*: ended with code 3"):
            async with started(1, SCRIPT, launcher):
                pass
        assert "that lets this member in" in launcher.printed()

    asyncio.run(body())


def garbage(address: tuple[str, int]) -> socket.socket:
    sock = socket.create_connection(address)
    sock.sendall(os.urandom(4096))
    return sock


def silent(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address)


def replayed(address: tuple[str, int]) -> socket.socket:
    """An answer to another greeting, with the right shape."""
    sock = socket.create_connection(address)
    sock.sendall(wire.answer("no token", 0, b"n" * wire.NONCE, b"m" * wire.NONCE))
    return sock


@pytest.mark.parametrize("call", [garbage, silent, replayed])
def test_strangers_keep_nobody_out(call: Callable[[tuple[str, int]], socket.socket]) -> None:
    """A thousand of them before the members come, and while they do."""

    class Besieged(Workers):
        async def start(self, members: list[MemberSpec], head: HeadAddress) -> None:  # type: ignore[override]
            self.strangers = [call((head.host, head.port)) for _ in range(100)]
            await super().start(members, head)
            for _ in range(18):
                await asyncio.sleep(0.05)
                self.strangers += [call((head.host, head.port)) for _ in range(50)]

    async def body() -> None:
        launcher = Besieged()
        async with started(3, SCRIPT, launcher) as engine:
            assert launcher.head
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((launcher.head.host, launcher.head.port))
            await engine_contract.answers_once_within_the_limits(engine, LIMITS, True)
        for sock in launcher.strangers:
            sock.close()

    asyncio.run(body())


def test_members_end_when_the_head_is_gone() -> None:
    """As by kill -9: the connection ends, nobody says a word."""

    async def body() -> None:
        launcher = Workers()
        engine = replicas(2, {**SCRIPT, "load_s": 0.0}, launcher)
        await asyncio.wait_for(engine.start(lambda text: None), 60)
        for member in engine.members.values():
            member.gone = True
            member.abort()
        deadline = time.monotonic() + 10
        while any(p.poll() is None for p in launcher.processes.values()) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert [process.returncode for process in launcher.processes.values()] == [4, 4]
        assert launcher.printed().count("the head is gone") == 2
        await engine.close()

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


def test_unlike_members_end_together() -> None:
    """Pull: one member at a third of the others' pace answers a seventh."""

    class Unlike(Workers):
        pass

    async def body() -> None:
        engine = ReplicaEngine(
            specs(3), fake_settings({"samples_per_s": 300, "concurrency": 8}), TokenRouter(), Unlike()
        )
        try:
            await engine.start(lambda text: None)
            sink = Collector(600)
            engine.submit(requests(600), LIMITS, False, sink)
            await asyncio.wait_for(sink.ended, 30)
            await engine.refresh_counters()
            counts = [member.counters["requests"] for member in engine.members.values()]
            assert max(counts) - min(counts) <= 40
        finally:
            await engine.close()

    asyncio.run(body())
    assert Prompts(1).count == 1
