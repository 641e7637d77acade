"""The head's side of members without their processes: what they were given, how fast they are, who hangs."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable

import pytest
from engine_contract import Collector, requests
from loadgen_support import LIMITS

from mlperf_llama.engine.replicas import watch, wire
from mlperf_llama.engine.replicas.dispatch import Dispatch, measured_rates
from mlperf_llama.engine.replicas.launch_none import NoLauncher
from mlperf_llama.engine.replicas.member import Member, Prompts
from mlperf_llama.engine.replicas.protocol import MemberSpec
from mlperf_llama.engine.replicas.router import TokenRouter
from mlperf_llama.engine.replicas.settings import Failure
from mlperf_llama.engine.replicas.start import Start
from mlperf_llama.engine.replicas.watch import Watch
from mlperf_llama.errors import BrokeError


class Head:
    """What members tell it is kept."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    def failed(self, member: Member, failure: Failure) -> None:
        self.failures.append(failure.message)


def member(index: int = 0, head: Head | None = None) -> Member:
    return Member(MemberSpec(index), b"", head or Head(), Prompts())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answered", "expected"),
    [
        ((3000, 1000), {0: 300.0, 1: 100.0}),
        # Less than a tenth apart.
        ((1000, 1050), {}),
        # One that has answered nothing, or hardly anything, has no rate.
        ((3000, 1000, 0), {}),
        ((3000, 775), {}),
    ],
)
def test_rates_as_measured(answered: tuple[int, ...], expected: dict[int, float]) -> None:
    async def body() -> None:
        members = [member(index) for index in range(len(answered))]
        for each, tokens in zip(members, answered, strict=True):
            each.began, each.ended, each.answered_tokens, each.answered = 5.0, 15.0, tokens, tokens // 25
        assert measured_rates(members) == expected

    asyncio.run(body())


def dispatched(body: Callable[[Dispatch, Member, Collector], None], again: bool = False) -> None:
    """Two requests, both with the one member there is."""

    async def life() -> None:
        router, alone = TokenRouter(), member()
        router.add(0, 1.0, 8)
        dispatch, sink = Dispatch(router, {0: alone}), Collector(2)
        dispatch.begin_run(redispatch=again)
        dispatch.submit(requests(2), wire.Terms(LIMITS, True), sink)
        body(dispatch, alone, sink)

    asyncio.run(life())


def test_a_member_answers_only_what_it_was_given_and_once() -> None:
    def body(dispatch: Dispatch, alone: Member, sink: Collector) -> None:
        assert dispatch.first_tokens(alone, [7], [1]) == 7
        assert dispatch.completions(alone, [0], [2], array("i", [4, 5])) is None
        assert dispatch.completions(alone, [0], [1], array("i", [6])) == 0
        assert sink.answers == {0: [4, 5]}

    dispatched(body)


def test_a_second_member_s_first_token_is_not_passed_on() -> None:
    def body(dispatch: Dispatch, alone: Member, sink: Collector) -> None:
        for token in (1, 2):
            assert dispatch.first_tokens(alone, [0], [token]) is None
        assert sink.first == {0: 1}

    dispatched(body, again=True)


@pytest.mark.parametrize(
    ("in_run", "lost"), [(True, ["its engine gave no sign for 8 s and has 1 requests"]), (False, [])]
)
def test_an_engine_that_hangs_is_lost_during_a_run(
    in_run: bool, lost: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TICK_S", 0.01)

    async def body() -> None:
        silent, causes = member(), list[str]()
        silent.connected, silent.heard, silent.engine_silent_s = True, asyncio.get_running_loop().time(), 8.1
        silent.requests = {0: requests(1)[0]}
        start = Start({0: silent}, lambda text: None)

        def note(_member: Member, cause: str) -> None:
            causes.append(cause)
            silent.gone = True

        watching = Watch({0: silent}, NoLauncher(), start, note, engine_silence_s=8.0)
        watching.in_run = in_run
        watching.run_soon()
        await asyncio.sleep(0.1)
        watching.stop()
        start.end(BrokeError("the test is over"))
        assert causes == lost

    asyncio.run(body())


def test_bytes_that_are_no_frame_are_a_failure_of_the_member() -> None:
    async def body() -> None:
        head = Head()
        member(head=head).data_received(wire.frame(99, 0, b"x"))
        assert head.failures == ["sent what is no frame of ours (kind 99)"]

    asyncio.run(body())
