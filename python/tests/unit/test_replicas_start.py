"""Members that fail to load or never come, strangers at the door, and a head that is gone."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable

import engine_contract
import pytest
from loadgen_support import LIMITS
from replica_support import SCRIPT, Workers, replicas, started

from mlperf_llama.engine.replicas import watch, wire
from mlperf_llama.engine.replicas.protocol import HeadAddress, MemberSpec
from mlperf_llama.errors import BrokeError, MissingError

pytestmark = pytest.mark.slow


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
        engine = replicas(2, SCRIPT, launcher)
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
