"""A member that serves: frames from the head to the engine, and what it delivers back to the head.

Nothing here formats text, logs or touches the disk.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict

from ...machine.gpu_sampler import GpuSampler
from ...records.codec import to_json
from ...records.schema import Energy, GpuReading
from .. import Engine, Request, Tokens
from ..frames import Decoder, Frame, FrameError
from ..outbox import Outbox
from ..pacing import Pacing
from ..receiving import Receiving
from . import settings, wire
from .settings import Failure

# Requests that the engine is given in one iteration of the loop.
BATCH = 256
# Without a word from the head for so long it is gone, though no connection says so.
HEAD_SILENCE_S = 60.0
# Between two questions to the engine whether it lives: its process answers between two steps.
ASK_S = 2.0


class Serving(Receiving):
    """The head's peer and the engine's sink. `ended`: when the head has closed, or is gone; `reason`: why,
    where it did not ask for it. `printed`: what was printed since it was last asked. `sampler`: its GPUs'."""

    def __init__(
        self, engine: Engine, decoder: Decoder, printed: Callable[[], str], sampler: GpuSampler
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.reason = ""
        self._engine, self._decoder, self._printed = engine, decoder, printed
        self._sampler = sampler
        self._sent_readings: Sequence[GpuReading] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._terms: wire.Terms | None = None
        self._received: deque[tuple[list[Request], wire.Terms]] = deque()
        self._submitting = False
        self._outbox = Outbox(self._loop, self._leave)
        self._heard = self._sign = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()
        # Whether the engine is in a process of its own, which is asked for signs of life.
        self._asks = hasattr(engine, "refresh_counters")

    def begin(self, waiting: Sequence[Frame]) -> None:
        """Take what came while the engine loaded; beat from now on."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._heard = self._sign = time.monotonic()
        for frame in waiting:
            self._take(frame)
        self._send_beat()
        if self._asks:
            self._spawn(self._ask_engine())

    # From the head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes | memoryview) -> None:
        self._heard = time.monotonic()
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
        except (FrameError, ValueError) as error:
            self._end(f"the head sent what is no frame of ours ({error})")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._end("the head is gone")

    def _take(self, frame: Frame) -> None:
        if frame.kind == wire.REQUESTS:
            if self._terms is None:
                raise FrameError("requests without terms")
            self._received.append((wire.read_requests(frame), self._terms))
            self._submit()
        elif frame.kind == wire.RUN:
            self._terms = wire.read_run(frame)
        elif frame.kind == wire.CALL:
            self._spawn(self._call(wire.read_text(frame)))
        elif frame.kind == wire.CLOSE:
            self._end("")
        elif frame.kind != wire.PING:
            raise FrameError(f"kind {frame.kind}")

    def _submit(self) -> None:
        """At most BATCH in one iteration of the loop: the tasks that an engine starts for them would hold up
        beats and answers."""
        if self._submitting:
            return
        batch, terms = self._received[0]
        if len(batch) <= BATCH:
            self._received.popleft()
        else:
            self._received[0] = (batch[BATCH:], terms)
            batch = batch[:BATCH]
        self._engine.submit(batch, terms.limits, terms.streaming, self)
        if self._received:
            self._submitting = True
            self._loop.call_soon(self._submit_further)

    def _submit_further(self) -> None:
        self._submitting = False
        self._submit()

    async def _call(self, call: dict[str, object]) -> None:
        reply: dict[str, object] = {"serial": call["serial"]}
        try:
            reply["result"] = await self._method(str(call["method"]), call["arguments"])
        except Exception as error:
            reply["error"] = f"{type(error).__name__}: {error}"
        self._write(wire.text(wire.REPLY, reply))

    async def _method(self, name: str, arguments: object) -> object:
        """One of the methods that an engine may have, where it lacks it no failure; or what the GPUs drew."""
        if name == "energy" and isinstance(arguments, list):
            return to_json(await self._energy(*arguments))
        if name not in ("set_limits", "set_pacing", "refresh_counters") or not isinstance(arguments, list):
            raise FrameError(f"no method of an engine: {name}")
        if name == "set_limits":
            # Between two runs.
            gc.collect()
        method: Callable[..., Awaitable[None]] | None = getattr(self._engine, name, None)
        if method is not None:
            await (method(Pacing(*arguments)) if name == "set_pacing" else method(*arguments))
            self._sign = time.monotonic()
        return self._engine.counters() if name == "refresh_counters" else None

    async def _energy(self, begin_s_ago: float, end_s_ago: float) -> Energy | None:
        """Between two moments by this host's clock."""
        now = time.monotonic()
        return await asyncio.to_thread(self._sampler.energy, now - begin_s_ago, now - end_s_ago)

    # From the engine

    def first_token(self, request_id: int, token: int) -> None:
        self._outbox.first_token(request_id, token)

    def completed(self, request_id: int, tokens: Tokens) -> None:
        self._outbox.completed(request_id, tokens)

    def failed(self, error: Exception) -> None:
        # Why it died may stand there alone.
        self._send_printed()
        self._write(wire.text(wire.FAILED, asdict(Failure(settings.BROKE, f"its engine died: {error}"))))
        self._end(f"the engine died: {error}")

    # Out

    def _leave(self, data: bytes) -> None:
        self._sign = time.monotonic()
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._transport:
            self._transport.write(data)

    # Signs of life

    def _send_beat(self) -> None:
        now = time.monotonic()
        self._write(wire.beat(now - self._sign if self._asks else 0.0))
        self._send_printed()
        self._send_readings()
        if now - self._heard > HEAD_SILENCE_S:
            self._end(f"no word from the head for {HEAD_SILENCE_S:g} s")
        if not self.ended.done():
            self._loop.call_later(wire.BEAT_S, self._send_beat)

    def _send_printed(self) -> None:
        if printed := self._printed():
            self._write(wire.words(wire.LOG, printed))

    def _send_readings(self) -> None:
        latest = self._sampler.latest
        if latest is not None and latest is not self._sent_readings:
            self._sent_readings = latest
            self._write(wire.text(wire.READINGS, to_json(settings.Readings(tuple(latest)))))

    async def _ask_engine(self) -> None:
        """An engine in a process of its own may hang while this one lives."""
        refresh: Callable[[], Awaitable[None]] = self._engine.refresh_counters  # type: ignore[attr-defined]
        while not self.ended.done():
            with suppress(Exception):
                await refresh()
                self._sign = time.monotonic()
            await asyncio.sleep(ASK_S)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, reason: str) -> None:
        if not self.ended.done():
            self.reason = reason
            self.ended.set_result(None)
