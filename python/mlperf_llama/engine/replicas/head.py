"""ReplicaEngine: many members behind the protocol of one engine.

Where latency counts (streaming) each request goes at once to the member that the router names; without, they
wait in one queue and members pull. Nothing on this path formats text, logs or touches the disk.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from itertools import groupby

from ...errors import BrokeError
from .. import EngineInfo, Limits, Progress, Request, Sink, Tokens
from ..pacing import Pacing
from . import failure, wire
from .door import Door
from .member import Member, Prompts
from .protocol import HeadAddress, Launcher, MemberSpec, Router
from .settings import Failure, MemberSettings
from .start import Start
from .watch import Watch

log = logging.getLogger(__name__)

# Sequences in one batch, where an engine has no limit that it tells.
DEFAULT_SEATS = 1024
# Rates that differ by less are noise.
RATE_NOISE = 0.1
# An engine's method answers between two of its steps.
CALL_S = 60.0
# What members get to end by themselves; the launcher then ends them.
CLOSE_S = 2.5


@dataclass(frozen=True)
class Listen:
    """Where the head listens, and what members are told to connect to; port 0: a free one."""

    bind: str = "127.0.0.1"
    announce: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True, eq=False)
class Job:
    """What holds for the requests of one `submit`."""

    terms: wire.Terms
    sink: Sink


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
        self._jobs: dict[int, Job] = {}
        self._terms: wire.Terms | None = None
        self._waiting = 0
        # First tokens that were passed on, where a request may be dispatched again.
        self._begun: set[int] = set()
        self._again: set[int] = set()
        self._redispatch = False
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
        settings = wire.text(wire.SETTINGS, asdict(self._settings))
        self.members = {spec.index: Member(spec, settings, self, self._prompts) for spec in self._specs}
        self._start = Start(self.members, progress)
        self._door = Door(self._token, self._start.admit)
        try:
            port = await self._door.open(self._listen.bind, self._listen.port)
        except OSError as error:
            raise BrokeError(
                f"replicas: expected to listen on {self._listen.bind}:{self._listen.port}: {error.strerror}"
            ) from None
        await self._launcher.start(self._specs, HeadAddress(self._listen.announce, port, self._token))
        silence_s = self._settings.engine_silence_s
        self._watch = Watch(self.members, self._launcher, self._start, self._lost, silence_s)
        self._watch.run_soon()
        await self._start.connected
        self._door.close()
        await self._start.done
        for member in self.members.values():
            member.seats = self._seats_of(member)
            self._router.add(member.index, 1.0, member.seats)
        return self._start.info(time.monotonic() - began)

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        if self._closing or not requests:
            return
        if self._dead:
            asyncio.get_running_loop().call_soon(sink.failed, self._dead)
            return
        terms = wire.Terms(limits, streaming)
        # One object while it holds, so that it is told by identity.
        self._terms = self._terms if terms == self._terms else terms
        job = Job(self._terms, sink)
        if not self._jobs.keys().isdisjoint(request.id for request in requests):
            error = BrokeError("engine: two requests under way have one id")
            asyncio.get_running_loop().call_soon(sink.failed, error)
            return
        self._jobs.update((request.id, job) for request in requests)
        self._dispatch(requests, streaming)

    def counters(self) -> dict[str, float]:
        """Sums over the members."""
        total: dict[str, float] = {}
        for member in self.members.values():
            for name, value in member.counters.items():
                total[name] = total.get(name, 0.0) + value
        return total

    async def close(self) -> None:
        self._closing = True
        if self._watch:
            self._watch.stop()
        if self._door:
            self._door.close()
        for task in self._tasks:
            task.cancel()
        self._jobs.clear()
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
        for member in self._serving():
            member.seats = max_num_seqs or self._seats_of(member)
            self._router.add(member.index, self._rates().get(member.index, 1.0), member.seats)

    async def set_pacing(self, pacing: Pacing) -> None:
        await self._all("set_pacing", *astuple(pacing))

    async def refresh_counters(self) -> None:
        counters = await self._all("refresh_counters")
        for member, values in zip(self._serving(), counters, strict=True):
            if isinstance(values, dict):
                member.counters = {str(name): float(value) for name, value in values.items()}

    async def begin_run(self, redispatch: bool) -> None:
        """Before each run. `redispatch`: the requests of a member that dies go to the others, once; without
        they end the run, and so does a member that died before: its share would be missing."""
        if self._losses and not redispatch:
            raise BrokeError(f"{self._losses[-1].text}; a performance run needs every member")
        self._redispatch = redispatch
        self._begun.clear()
        self._again.clear()
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
        jobs, begun, begin, index = self._jobs, self._begun, self._router.begun, member.index
        for number, token in zip(ids, tokens, strict=True):
            if number not in member.requests:
                self._lost(member, failure.stranger(number))
                return
            begin(index, number)
            if self._redispatch:
                if number in begun:
                    continue
                begun.add(number)
            jobs[number].sink.first_token(number, token)

    def completions(self, member: Member, ids: Sequence[int], lengths: Sequence[int], tokens: Tokens) -> None:
        jobs, given, done, index = self._jobs, member.requests, self._router.done, member.index
        start = answered = 0
        for number, length in zip(ids, lengths, strict=True):
            request = given.pop(number, None)
            if request is None:
                self._lost(member, failure.stranger(number))
                return
            end = start + length
            done(index, number)
            answered += len(request.prompt)
            jobs.pop(number).sink.completed(number, tokens[start:end])
            start = end
        member.answered_tokens += answered
        member.ended = member.heard
        if self._waiting:
            self._feed(member)

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

    # Requests

    def _dispatch(self, requests: Sequence[Request], streaming: bool) -> None:
        if streaming:
            for index, batch in self._router.assign(requests).items():
                self._send(self.members[index], batch)
            return
        self._router.queue(requests)
        self._waiting += len(requests)
        for member in self._serving():
            self._feed(member)

    def _feed(self, member: Member) -> None:
        batch = self._router.pull(member.index, self._waiting)
        if batch:
            self._waiting -= len(batch)
            self._send(member, batch)

    def _send(self, member: Member, batch: Sequence[Request]) -> None:
        jobs = self._jobs
        for terms, part in groupby(batch, key=lambda request: jobs[request.id].terms):
            member.send(list(part), terms)

    # Members lost

    def _lost(self, member: Member, cause: str) -> None:
        """A member serves no more: its requests go to the others, or the run ends."""
        if member.gone or self._closing:
            return
        member.gone = True
        member.abort()
        loss = failure.Loss(member.index, member.name, cause, len(member.requests))
        log.warning("member_lost %s", loss.text)
        error = BrokeError(loss.text)
        if self._start and not self._start.done.done():
            self._start.end(error)
            return
        self._router.remove(member.index)
        again = list(member.requests.values())
        twice = any(request.id in self._again for request in again)
        if not self._redispatch or twice or not self._serving():
            self._die(error)
            return
        self._losses.append(loss)
        self.on_loss(loss)
        self._again.update(request.id for request in again)
        member.requests.clear()
        for streaming, part in groupby(again, key=lambda request: self._jobs[request.id].terms.streaming):
            self._dispatch(list(part), streaming)

    def _die(self, error: Exception) -> None:
        self._dead = error
        sinks = {id(job.sink): job.sink for job in self._jobs.values()}
        self._jobs.clear()
        for sink in sinks.values():
            sink.failed(error)

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
            with suppress(IndexError):
                raise BrokeError(self._losses[-1].text) from None
            raise BrokeError(str(error)) from None

    def _rates(self) -> dict[int, float]:
        """Prompt tokens per second of each member so far; equal where they hardly differ."""
        rates = {
            member.index: member.answered_tokens / (member.ended - member.began)
            for member in self._serving()
            if member.began is not None and member.ended > member.began and member.answered_tokens
        }
        if len(rates) < len(self._serving()) or max(rates.values()) < (1 + RATE_NOISE) * min(rates.values()):
            return {}
        return rates

    def _seats_of(self, member: Member) -> int:
        settings = member.report.info.settings if member.report else {}
        seats = settings.get("max_num_seqs", settings.get("concurrency"))
        return int(seats) if isinstance(seats, int | float) else DEFAULT_SEATS
