"""EndpointEngine: one or several servers behind the engine's protocol. In the timed path nothing is logged.

Where latency counts (streaming) each request goes at once to the server whose outstanding work is done first;
without, requests wait in one queue and each server is kept supplied, as many replicas of one engine are
(replicas/router.py).
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from ...errors import BrokeError
from .. import EngineInfo, Limits, Progress, Request, Sink
from ..replicas.router import TokenRouter
from .answer import BUSY, Answer, First, ServerError, ServerLostError
from .client import Client, Patience
from .probe import Server, check_ids, echoes, probe

# Requests that a server works on at once; as many more wait at it.
DEFAULT_SEATS = 512
LONGEST_PAUSE_S = 30.0
# Since the engine began. Of answers: those with more tokens than allowed, with other than as many ids as the
# server counts, and to another prompt than was sent, by the server's own word.
COUNTERS = (
    *("requests", "generation_tokens", "retries", "cached_tokens"),
    *("over_limit", "miscounted", "not_echoed"),
)


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    limits: Limits
    streaming: bool
    sink: Sink


class EndpointEngine:
    """`limits`: of the longest answer that will be asked for; `vocabulary`: ids that the model has; `seats`:
    requests that each server works on at once, where all are there from the start."""

    def __init__(
        self,
        addresses: Sequence[str],
        limits: Limits,
        vocabulary: int,
        *,
        key: str | None = None,
        seats: int | None = None,
        seed: int = 0,
        patience: Patience | None = None,
    ) -> None:
        self._addresses, self._limits, self._vocabulary = tuple(addresses), limits, vocabulary
        self._key, self._seats, self._seed = key, seats or DEFAULT_SEATS, seed
        self._patience = patience or Patience()
        self._clients: list[Client] = []
        self.servers: list[Server] = []
        self._router = TokenRouter()
        self._jobs: dict[int, _Job] = {}
        self._queued = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._counters = dict.fromkeys(COUNTERS, 0.0)
        self._retries = True
        self._dead: Exception | None = None
        self._closed = False

    async def start(self, progress: Progress) -> EngineInfo:
        """Probe every server. MissingError, BrokeError: what is wrong with the first that cannot be used."""
        began = time.monotonic()
        _allow_connections()
        progress(f"probing {', '.join(self._addresses)}")
        self._clients = [Client(address, self._key, self._patience) for address in self._addresses]
        within_s = self._patience.probe_s
        probes = [
            asyncio.create_task(probe(client, self._limits, self._vocabulary, self._seed, within_s))
            for client in self._clients
        ]
        try:
            self.servers = list(await asyncio.gather(*probes))
        finally:
            for task in probes:
                task.cancel()
        for number in range(len(self.servers)):
            self._router.add(number, 1.0, self._seats)
        return self._info(time.monotonic() - began)

    def _info(self, seconds: float) -> EngineInfo:
        probed = [server.probed for server in self.servers]
        lengths = [one.max_model_len for one in probed]
        cached = {one.prefix_cache for one in probed}
        names = dict.fromkeys(f"{one.software} {one.version or '(unknown version)'}" for one in probed)
        settings: dict[str, object] = {
            "servers": len(probed),
            "max_model_len": None if None in lengths else min(filter(None, lengths)),
            "enable_prefix_caching": True if True in cached else None if None in cached else False,
            "max_num_seqs": self._seats,
        }
        return EngineInfo("endpoint", ", ".join(names), settings, round(seconds, 2))

    def begin_run(self, retries: bool) -> None:
        """Before each run. `retries`: a busy or lost server is asked again; else its error ends the run."""
        self._retries = retries

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        if self._closed or not requests:
            return
        if self._dead:
            asyncio.get_running_loop().call_soon(sink.failed, self._dead)
            return
        job = _Job(limits, streaming, sink)
        self._jobs.update((request.id, job) for request in requests)
        if streaming:
            for number, batch in self._router.assign(requests).items():
                self._send(number, batch)
            return
        self._router.queue(requests)
        self._queued += len(requests)
        for number in range(len(self.servers)):
            self._feed(number)

    def counters(self) -> dict[str, float]:
        return dict(self._counters)

    async def close(self) -> None:
        self._closed = True
        self._jobs.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            await client.close()

    def _feed(self, number: int) -> None:
        batch = self._router.pull(number, self._queued)
        self._queued -= len(batch)
        self._send(number, batch)

    def _send(self, number: int, batch: Sequence[Request]) -> None:
        for request in batch:
            task = asyncio.create_task(self._serve(number, request, self._jobs[request.id]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, number: int, request: Request, job: _Job) -> None:
        """One request, from its server's connection to the sink."""
        server = self.servers[number]
        body = server.dialect.body(server.probed.model, request.prompt, job.limits, job.streaming)
        told: list[int] = []

        def first(answer: Answer) -> None:
            self._router.begun(number, request.id)
            if not told:
                told.append(answer.tokens[0] if answer.tokens else 0)
                job.sink.first_token(request.id, told[0])

        try:
            answer = await self._ask(server, body, job, first)
            check_ids(server.client.address, answer.tokens, self._vocabulary)
            tokens = answer.tokens if server.dialect.gives_ids else [0] * (answer.completion_tokens or 0)
            if told and tokens and tokens[0] != told[0]:
                raise ServerError(f"{server.client.address}: answered again with another first token")
        except Exception as error:
            self._fail(error)
            return
        if self._closed or self._dead:
            return
        self._count(request, job.limits, answer, len(tokens))
        self._jobs.pop(request.id, None)
        self._router.done(number, request.id)
        job.sink.completed(request.id, tokens)
        if self._queued:
            self._feed(number)

    async def _ask(self, server: Server, body: bytes, job: _Job, first: First) -> Answer:
        reconnected = False
        for attempt in count():
            try:
                return await server.client.ask(server.dialect, body, job.streaming, first)
            except ServerError as error:
                if error.unsent and not reconnected:
                    # The server had closed the connection while nobody used it.
                    reconnected = True
                    continue
                if not self._may_repeat(error, attempt):
                    raise
                self._counters["retries"] += 1
                pause_s = error.wait_s or self._patience.pause_s * 2**attempt
                await asyncio.sleep(min(pause_s, LONGEST_PAUSE_S))
        raise AssertionError("a loop without an end")

    def _may_repeat(self, error: ServerError, attempt: int) -> bool:
        passing = error.status in BUSY or isinstance(error, ServerLostError)
        return self._retries and passing and attempt + 1 < self._patience.tries

    def _count(self, request: Request, limits: Limits, answer: Answer, tokens: int) -> None:
        counters = self._counters
        counters["requests"] += 1
        counters["generation_tokens"] += tokens
        counters["cached_tokens"] += answer.cached_tokens or 0
        counters["over_limit"] += tokens > limits.max_new_tokens
        counters["miscounted"] += answer.completion_tokens not in (None, tokens)
        counters["not_echoed"] += echoes(request.prompt, answer) is False

    def _fail(self, error: Exception) -> None:
        """One failure ends all: every sink is told once."""
        if self._dead or self._closed:
            return
        self._dead = error if isinstance(error, BrokeError) else BrokeError(str(error))
        sinks = {id(job.sink): job.sink for job in self._jobs.values()}
        self._jobs.clear()
        self._queued = 0
        self._router.clear()
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()
        for sink in sinks.values():
            sink.failed(self._dead)


def _allow_connections() -> None:
    """As many open files as this process may have: each request under way has a connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
