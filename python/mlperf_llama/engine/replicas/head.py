"""ReplicaEngine: many members behind the protocol of one engine.

Over 250 lines: what the engine is asked, what its members report and what follows from a lost one change one
state; what can be told apart from it (dispatch, start, watch, tally, failure) stands beside it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, replace

from ...errors import BrokeError
from ...records.schema import Energy, GpuReading, MemberCounts
from .. import EngineInfo, Limits, Progress, Request, Sink, Tokens
from ..pacing import Pacing
from . import failure, tally, wire
from .dispatch import Dispatch, measured_rates, seats_of
from .door import Door
from .member import Member, Prompts
from .protocol import HeadAddress, Launcher, Listen, MemberSpec, Router
from .settings import Failure, MemberSettings
from .start import Start
from .watch import Watch

log = logging.getLogger(__name__)

# An engine's method answers between two of its steps.
CALL_S = 60.0
# What members get to end by themselves; the launcher then ends them.
CLOSE_S = 2.5


class ReplicaEngine:
    """`token`: None for one of its own. `on_loss`: told of each member whose requests go to the others."""

    def __init__(
        self,
        specs: Sequence[MemberSpec],
        settings: MemberSettings,
        router: Router,
        launcher: Launcher,
        listen: Listen | None = None,
        token: str | None = None,
    ) -> None:
        self._specs, self._settings = tuple(specs), settings
        self._router, self._launcher = router, launcher
        self._listen = listen or Listen()
        self._token = token or secrets.token_urlsafe(32)
        self.on_loss: Callable[[failure.Loss], None] = lambda loss: None
        self._prompts = Prompts()
        self.members: dict[int, Member] = {}
        self._dispatch = Dispatch(router, self.members)
        self._redispatch = False
        self._rates: dict[int, float] | None = None
        self._losses: list[failure.Loss] = []
        self._taken = 0
        self._dead: Exception | None = None
        self._closing = False
        self._door: Door | None = None
        self._start: Start | None = None
        self._watch: Watch | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # The engine protocol

    @property
    def replicas(self) -> int:
        """Engines that share the work."""
        return len(self._specs)

    async def start(self, progress: Progress) -> EngineInfo:
        """Start every member and wait until each has loaded. MissingError, BrokeError: what the first that
        failed reports, with its name; or who did not come in time."""
        began = time.monotonic()
        for spec in self._specs:
            settings = wire.text(wire.SETTINGS, asdict(replace(self._settings, index=spec.index)))
            self.members[spec.index] = Member(spec, settings, self, self._prompts)
        self._start = Start(self.members, progress)
        self._door = Door(self._token, self._start.admit)
        port = await self._door.open(self._listen.bind, self._listen.port)
        await self._launcher.start(self._specs, HeadAddress(self._listen.announce, port, self._token))
        silence_s = self._settings.engine_silence_s
        self._watch = Watch(self.members, self._launcher, self._start, self._lost, silence_s)
        self._watch.run_soon()
        await self._start.connected
        self._door.close()
        await self._start.done
        for member in self.members.values():
            member.seats = seats_of(member)
            self._admit(member)
        return self._start.info(time.monotonic() - began)

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        if self._closing or not requests:
            return
        if self._dead:
            asyncio.get_running_loop().call_soon(sink.failed, self._dead)
        elif self._dispatch.knows(requests):
            error = BrokeError("engine: two requests under way have one id")
            asyncio.get_running_loop().call_soon(sink.failed, error)
        else:
            self._dispatch.submit(requests, wire.Terms(limits, streaming), sink)

    def counters(self) -> dict[str, float]:
        """Sums over the members."""
        return tally.summed(self.members.values())

    def gpu_readings(self) -> list[GpuReading]:
        """The latest of every member's GPUs, as its host reads them."""
        return tally.gpu_readings(self._serving())

    def member_counts(self) -> list[MemberCounts]:
        """How far each member is, also of those that are lost."""
        return tally.counts(self.members.values())

    async def close(self) -> None:
        self._closing = True
        if self._watch:
            self._watch.stop()
        if self._door:
            self._door.close()
        for task in self._tasks:
            task.cancel()
        self._dispatch.drop()
        members = [member for member in self.members.values() if member.connected]
        for member in members:
            member.ask_to_close()
        deadline = time.monotonic() + CLOSE_S
        try:
            while any(m.open_connection for m in members if not m.gone) and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
        finally:
            for member in members:
                member.gone = True
                member.abort()
            await self._launcher.stop()

    # What an engine may have beside the protocol

    async def set_limits(self, max_num_seqs: int | None, prefill_tokens: int | None) -> None:
        """Limits of every member for the runs that follow."""
        await self._all("set_limits", max_num_seqs, prefill_tokens)
        if self._rates is None:
            # What went before the first run is the warm-up.
            self._rates = measured_rates(self._serving())
        for member in self._serving():
            member.seats = max_num_seqs or seats_of(member)
            self._admit(member)

    def use_members(self, count: int | None) -> None:
        """The first `count` of those that serve answer the runs that follow, None: all."""
        for number, member in enumerate(self._serving()):
            member.idle = count is not None and number >= count
            self._router.remove(member.index)
            self._admit(member)

    def _admit(self, member: Member) -> None:
        """It may be given requests, by its seats and what was measured of it."""
        if not member.idle:
            self._router.add(member.index, (self._rates or {}).get(member.index, 1.0), member.seats)

    async def set_pacing(self, pacing: Pacing) -> None:
        await self._all("set_pacing", *astuple(pacing))

    async def refresh_counters(self) -> None:
        tally.keep_counters(self._serving(), await self._all("refresh_counters"))

    async def energy(self, begin_s: float, end_s: float) -> tuple[Energy | None, ...]:
        """What each member's GPUs drew between two moments of the monotonic clock; None where unread."""
        now = time.monotonic()
        return tally.energy(await self._all("energy", now - begin_s, now - end_s))

    async def begin_run(self, redispatch: bool) -> None:
        """Before each run. `redispatch`: the requests of a member that dies go to the others, once; without
        they end the run, and so does a member that died before: its share would be missing."""
        if self._losses and not redispatch:
            raise BrokeError(f"{self._losses[-1].text}; a performance run needs every member")
        self._redispatch = redispatch
        self._dispatch.begin_run(redispatch)
        if self._watch:
            self._watch.in_run = True

    def take_losses(self) -> list[failure.Loss]:
        """Members lost since this was last asked, whose requests went to the others."""
        losses, self._taken = self._losses[self._taken :], len(self._losses)
        return losses

    # From the members

    def step(self, member: Member, text: str) -> None:
        if self._start:
            self._start.step(member, text)

    def loaded(self, member: Member) -> None:
        if self._start:
            self._start.loaded(member)

    def first_tokens(self, member: Member, ids: Sequence[int], tokens: Sequence[int]) -> None:
        if not self._dead and not self._closing:
            self._tell(member, self._dispatch.first_tokens(member, ids, tokens))

    def completions(self, member: Member, ids: Sequence[int], lengths: Sequence[int], tokens: Tokens) -> None:
        if not self._dead and not self._closing:
            self._tell(member, self._dispatch.completions(member, ids, lengths, tokens))

    def _tell(self, member: Member, wrong: int | None) -> None:
        if wrong is not None:
            self._lost(member, f"answered request {wrong}, which it was not given or had answered before")

    def failed(self, member: Member, reported: Failure) -> None:
        if self._start and self._start.failed(member, reported):
            return
        self._lost(member, reported.message)

    def disconnected(self, member: Member) -> None:
        """The exit of its process says more than the end of its connection."""
        if self._closing or member.gone:
            return
        task = asyncio.get_running_loop().create_task(self._explain(member))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _explain(self, member: Member) -> None:
        self._lost(member, await failure.cause_of(member.spec, self._launcher))

    # Members lost

    def _lost(self, member: Member, cause: str) -> None:
        """A member serves no more: its requests go to the others, or the run ends."""
        if member.gone or self._closing:
            return
        member.gone = True
        member.abort()
        if self._dead:
            return
        loss = failure.Loss(member.index, member.name, cause, len(member.requests))
        log.warning("member_lost %s", loss.text)
        if self._start and not self._start.done.done():
            self._start.end(BrokeError(loss.text))
        elif self._redispatch and self._serving() and not self._dispatch.were_again(member):
            self._losses.append(loss)
            self.on_loss(loss)
            self._dispatch.again(member)
        else:
            self._dead = BrokeError(loss.text)
            self._dispatch.fail(self._dead)

    def _serving(self) -> list[Member]:
        return [member for member in self.members.values() if not member.gone]

    async def _all(self, method: str, *arguments: object) -> list[object]:
        """A method of every member's engine. BrokeError where one does not answer."""
        if self._dead:
            raise self._dead
        calls = [member.call(method, *arguments) for member in self._serving()]
        try:
            return list(await asyncio.wait_for(asyncio.gather(*calls), CALL_S))
        except TimeoutError:
            raise BrokeError(f"replicas: expected {method} to be done within {CALL_S:g} s") from None
        except ConnectionError as error:
            # How its process ended says more.
            await asyncio.gather(*self._tasks, return_exceptions=True)
            raise self._dead or BrokeError(failure.explained(str(error), self._losses)) from None
