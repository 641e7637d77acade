"""Between LoadGen's socket and the engine, on the engine's loop: the timed path.

Nothing here formats text, logs or touches the disk.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from math import isnan
from time import monotonic
from typing import Protocol

from .. import rules
from ..engine import Engine, Limits, Request, Tokens
from ..engine.outbox import Outbox
from ..engine.receiving import Receiving
from ..errors import BrokeError, UsageError
from ..records.requests import Requests
from . import link
from .plan import Plan
from .timeline import Lengths, Timeline


class SampleSource(Protocol):
    """The prepared dataset: token ids of each prompt, and how many each has."""

    @property
    def count(self) -> int: ...

    @property
    def lengths(self) -> Lengths: ...

    def prompt(self, index: int) -> Tokens: ...


# How a pass of Offline is ordered, by prompt length.
ORDERS: dict[str, int] = {"as-is": 0, "longest-first": -1, "shortest-first": 1}


def check_order(order: str, plan: Plan) -> None:
    if order not in ORDERS or (ORDERS[order] and plan.scenario != rules.OFFLINE):
        raise UsageError(
            f"order: expected one of {', '.join(ORDERS)} (as-is outside Offline), found {order!r}"
        )


def arrange(indices: Sequence[int], lengths: Lengths, order: str, pass_size: int) -> Sequence[int]:
    """Positions of `indices` in the order of submission.

    Sorting stays inside each pass over the dataset: across passes the rules forbid it.
    """
    positions = range(len(indices))
    sign = ORDERS[order]
    if not sign:
        return positions
    sizes = [sign * int(lengths[i]) for i in indices]
    ordered: list[int] = []
    for start in range(0, len(indices), pass_size):
        ordered += sorted(positions[start : start + pass_size], key=sizes.__getitem__)
    return ordered


class Relay(Receiving):
    """LoadGen's peer and the engine's sink.

    `outcome` is set once: None when LoadGen is done, EOFError when its process ended
    early, else the error that ends the run.
    """

    def __init__(self, engine: Engine, samples: SampleSource, limits: Limits, plan: Plan, order: str) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[None] = self._loop.create_future()
        self.ready = False
        self.seconds = 0.0
        # LoadGen's library, as its process names it.
        self.loadgen = ""
        # Of the first query and of the last answers that left: monotonic and wall clock.
        self.first: tuple[float, float] | None = None
        self.last = (0.0, 0.0)
        self._engine, self._source, self._limits = engine, samples, limits
        self._streaming, self._order, self._pass_size = plan.streaming, order, plan.sample_count
        self._decoder = link.Decoder()
        self._transport: asyncio.WriteTransport | None = None
        # A request's id is `_first_id` and its slot. LoadGen's response id is an address in the child:
        # an id that is unknown or answered twice must never get there. Ours start at a new number each
        # run, because a run that was stopped may leave requests in the engine.
        self._first_id = time.monotonic_ns()
        self.timeline = Timeline(plan.expected_queries)
        self._started = 0.0
        self._outbox = Outbox(self._loop, self._leave)

    @property
    def issued(self) -> int:
        """Samples that were handed to the engine."""
        return self.timeline.count

    @property
    def samples(self) -> int:
        """Answered ones."""
        return self.timeline.answered()

    @property
    def tokens(self) -> int:
        """Of all answers so far."""
        return self.timeline.tokens()

    @property
    def waiting(self) -> int:
        """Samples without their answer."""
        return self.timeline.count - self.samples

    def requests(self) -> Requests:
        """The record of every request so far."""
        return self.timeline.requests(self._source.lengths)

    def close(self) -> None:
        """Stop listening to the engine; late responses are dropped."""
        self._end(None)
        self.outcome.exception()

    # From LoadGen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes | memoryview) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except Exception as error:
            self._end(error)

    def connection_lost(self, error: BaseException | None) -> None:
        self._end(EOFError() if error is None or isinstance(error, OSError) else error)

    def _take(self, frame: link.Frame) -> None:
        if frame.kind == link.QUERIES:
            self._submit(*link.read_queries(frame))
        elif frame.kind == link.READY:
            self.ready, self.loadgen = True, frame.payload.decode()
            self._started = time.monotonic()
        elif frame.kind == link.DONE:
            self.seconds = time.monotonic() - self._started
            self._end(None)
        else:
            self._end(BrokeError(f"LoadGen: {frame.payload.decode()}"))

    def _submit(self, response_ids: Sequence[int], indices: Sequence[int]) -> None:
        if self.outcome.done():
            return
        now = monotonic()
        self.first = self.first or (now, time.time())
        base, prompt = self._first_id + self.timeline.count, self._source.prompt
        self.timeline.arrived(response_ids, indices, now)
        order = arrange(indices, self._source.lengths, self._order, self._pass_size)
        requests = [Request(base + n, prompt(indices[n])) for n in order]
        self._engine.submit(requests, self._limits, self._streaming, self)

    # From the engine

    def first_token(self, request_id: int, token: int) -> None:
        slot, timeline = request_id - self._first_id, self.timeline
        response_id = timeline.response_ids[slot] if 0 <= slot < timeline.count else 0
        if not response_id or not self._streaming or not isnan(timeline.first_token_s[slot]):
            return self._misbehaved(f"a first token of request {request_id}: unknown, sent, or not requested")
        timeline.first_token_s[slot] = monotonic()
        return self._outbox.first_token(response_id, token)

    def completed(self, request_id: int, tokens: Tokens) -> None:
        slot, timeline = request_id - self._first_id, self.timeline
        response_id = timeline.response_ids[slot] if 0 <= slot < timeline.count else 0
        count = len(tokens)
        if not response_id:
            return self._misbehaved(f"a response to request {request_id}: unknown or sent before")
        if self._streaming and isnan(timeline.first_token_s[slot]):
            return self._misbehaved(f"a response to request {request_id} before its first token")
        if not count:
            return self._misbehaved(f"an empty response to request {request_id}")
        timeline.end_s[slot] = monotonic()
        timeline.answer_tokens[slot] = count
        timeline.response_ids[slot] = 0
        return self._outbox.completed(response_id, tokens)

    def failed(self, error: Exception) -> None:
        self._end(error if isinstance(error, BrokeError) else BrokeError(f"engine: died: {error}"))

    def _misbehaved(self, what: str) -> None:
        """After the run's end this does nothing: responses may come late."""
        self._end(BrokeError(f"engine: sent {what}"))

    # Out

    def _leave(self, data: bytes) -> None:
        if self._transport is None or self.outcome.done():
            return
        self._transport.write(data)
        self.last = (time.monotonic(), time.time())

    def _end(self, error: BaseException | None) -> None:
        if not self.outcome.done():
            if error is None:
                self.outcome.set_result(None)
            else:
                self.outcome.set_exception(error)
