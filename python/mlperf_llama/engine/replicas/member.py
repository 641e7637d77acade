"""The head's side of one member: its connection, what it was given, its signs of life."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Protocol

from ...records.schema import GpuReading
from .. import Request, Tokens
from ..frames import (
    COMPLETIONS,
    FIRST_TOKENS,
    Decoder,
    Frame,
    FrameError,
    read_completions,
    read_first_tokens,
)
from ..receiving import Receiving
from . import wire
from .protocol import UNKNOWN_HOST, MemberSpec
from .settings import BROKE, Failure, Loaded, Readings


class Head(Protocol):
    """What a member's connection tells the head."""

    def step(self, member: Member, text: str) -> None: ...

    def loaded(self, member: Member) -> None: ...

    def first_tokens(self, member: Member, ids: Sequence[int], tokens: Sequence[int]) -> None: ...

    def completions(
        self, member: Member, ids: Sequence[int], lengths: Sequence[int], tokens: Tokens
    ) -> None: ...

    def failed(self, member: Member, failure: Failure) -> None:
        """In the member's own words."""

    def disconnected(self, member: Member) -> None:
        """The connection ended, and nothing says why."""


class Prompts:
    """Prompts as bytes, made once: a dataset's prompts are the same objects in every run."""

    MOST_BYTES = 1 << 29

    def __init__(self) -> None:
        # The prompt is kept beside its bytes, so that its id() stays its own.
        self._known: dict[int, tuple[Tokens, bytes]] = {}
        self._size = 0

    def of(self, prompt: Tokens) -> bytes:
        known = self._known.get(id(prompt))
        if known is not None:
            return known[1]
        data = wire.prompt_bytes(prompt)
        if self._size > self.MOST_BYTES:
            self._known.clear()
            self._size = 0
        self._known[id(prompt)] = (prompt, data)
        self._size += len(data)
        return data


class Member(Receiving):
    """`requests`: what it was given and has not answered. `heard`: when it last sent anything (loop time).
    `engine_silent_s`: how long its engine had given no sign then. `gone`: it serves no more. `idle`: it is
    given no requests. `settings`: the frame that it is sent first."""

    def __init__(self, spec: MemberSpec, settings: bytes, head: Head, prompts: Prompts) -> None:
        super().__init__()
        self.spec, self.index = spec, spec.index
        self.requests: dict[int, Request] = {}
        self.report: Loaded | None = None
        self.counters: dict[str, float] = {}
        self.readings: tuple[GpuReading, ...] = ()
        # Requests, since it was loaded.
        self.answered = 0
        self.connected = self.gone = self.idle = False
        self.heard = self.engine_silent_s = 0.0
        # For its rate: prompt tokens answered, when the first was given, when the last was done.
        self.answered_tokens = 0
        self.began: float | None = None
        self.ended = 0.0
        self.seats = 1
        self._loop = asyncio.get_running_loop()
        self._settings, self._head, self._prompts = settings, head, prompts
        self._decoder = Decoder(wire.MOST_BYTES)
        self._transport: asyncio.Transport | None = None
        self._terms: wire.Terms | None = None
        self._outbox: list[Request] = []
        self._serial = count()
        self._calls: dict[int, asyncio.Future[object]] = {}

    @property
    def name(self) -> str:
        if self.report and self.spec.host == UNKNOWN_HOST:
            gpus = ",".join(str(gpu.index) for gpu in self.report.gpus)
            return replace(self.spec, host=self.report.host, gpu=gpus or None).name
        return self.spec.name

    @property
    def open_connection(self) -> bool:
        return self._transport is not None

    # From the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self.connected, self.heard = transport, True, self._loop.time()
        transport.write(self._settings)

    def data_received(self, data: bytes | memoryview) -> None:
        self.heard = self._loop.time()
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except (FrameError, ValueError) as error:
            self._head.failed(self, Failure(BROKE, f"sent what is no frame of ours ({error})"))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        for call in self._calls.values():
            if not call.done():
                call.set_exception(ConnectionError(f"{self.name}: the connection ended"))
        self._calls.clear()
        self._head.disconnected(self)

    def _take(self, frame: Frame) -> None:
        kind = frame.kind
        if self.gone:
            return
        if kind == COMPLETIONS:
            self._head.completions(self, *read_completions(frame))
        elif kind == FIRST_TOKENS:
            self._head.first_tokens(self, *read_first_tokens(frame))
        elif kind == wire.BEAT:
            self.engine_silent_s = wire.read_beat(frame)
        elif kind == wire.READINGS:
            gpus = wire.record(frame, Readings).gpus
            self.readings = tuple(replace(reading, member=self.index) for reading in gpus)
        elif kind == wire.REPLY:
            self._replied(wire.read_text(frame))
        elif kind == wire.STEP:
            self._head.step(self, wire.read_words(frame))
        elif kind == wire.LOG:
            self._print(wire.read_words(frame))
        elif kind == wire.LOADED:
            self.report = wire.record(frame, Loaded)
            self._head.loaded(self)
        elif kind == wire.FAILED:
            self._head.failed(self, wire.record(frame, Failure))
        else:
            raise FrameError(f"kind {kind}")

    def _print(self, printed: str) -> None:
        """To run.log, where the cause of a failure is looked for, wherever the member runs."""
        lines = [f"member {self.index} | {line}\n" for line in printed.splitlines()]
        sys.stderr.write("".join(lines))
        sys.stderr.flush()

    # To it

    def send(self, batch: Sequence[Request], terms: wire.Terms) -> None:
        """Requests, and what holds for them where it is not what held for the last ones. All of one iteration
        of the loop leave as one frame."""
        held = self.requests
        for request in batch:
            held[request.id] = request
        if terms is not self._terms and terms != self._terms:
            self._flush()
            self._terms = terms
            self._write(wire.run(terms))
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox += batch

    def _flush(self) -> None:
        batch, self._outbox = self._outbox, []
        if batch:
            if self.began is None:
                self.began = self._loop.time()
            prompt = self._prompts.of
            self._write(wire.requests(batch, [prompt(request.prompt) for request in batch]))

    def _write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    def ping(self) -> None:
        self._write(wire.text(wire.PING, {}))

    async def call(self, method: str, *arguments: object) -> object:
        """A method of its engine; ConnectionError where the member is gone or refuses."""
        if self._transport is None:
            raise ConnectionError(f"{self.name}: the connection ended")
        serial, done = next(self._serial), self._loop.create_future()
        self._calls[serial] = done
        self._transport.write(
            wire.text(wire.CALL, {"serial": serial, "method": method, "arguments": arguments})
        )
        return await done

    def _replied(self, reply: dict[str, object]) -> None:
        call = self._calls.pop(int(str(reply.get("serial", -1))), None)
        if call is None or call.done():
            return
        if reply.get("error") is not None:
            call.set_exception(ConnectionError(f"{self.name}: {reply['error']}"))
        else:
            call.set_result(reply.get("result"))

    def ask_to_close(self) -> None:
        self._write(wire.text(wire.CLOSE, {}))

    def abort(self) -> None:
        if self._transport:
            self._transport.abort()
