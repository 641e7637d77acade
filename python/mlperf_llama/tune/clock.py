"""An engine with a clock in front: when each request came, began and ended. For probes only.

LoadGen's log has percentiles but no single latency, and a forecast needs every one. The
figures a result is judged by still come from LoadGen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ..engine import Engine, EngineInfo, Limits, Progress, Request, Sink, Tokens
from .forecast import Requests


class ClockedEngine:
    """Passes everything on to `engine` and its sink, and notes the times."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sink: Sink | None = None
        self._came: dict[int, float] = {}
        self._began: dict[int, float] = {}
        self._rows: list[tuple[float, float, float, int]] = []

    async def start(self, progress: Progress) -> EngineInfo:
        return await self._engine.start(progress)

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        now = time.monotonic()
        self._sink = sink
        self._came.update((request.id, now) for request in requests)
        self._engine.submit(requests, limits, streaming, self)

    def counters(self) -> dict[str, float]:
        return self._engine.counters()

    async def close(self) -> None:
        await self._engine.close()

    def first_token(self, request_id: int, token: int) -> None:
        self._began[request_id] = time.monotonic()
        assert self._sink
        self._sink.first_token(request_id, token)

    def completed(self, request_id: int, tokens: Tokens) -> None:
        now = time.monotonic()
        came = self._came.pop(request_id, now)
        self._rows.append((came, self._began.pop(request_id, now), now, len(tokens)))
        assert self._sink
        self._sink.completed(request_id, tokens)

    def failed(self, error: Exception) -> None:
        assert self._sink
        self._sink.failed(error)

    def requests(self) -> Requests:
        """All that was answered, in the order it came."""
        came, began, ended, tokens = np.array(sorted(self._rows), dtype=float).T
        return Requests(
            arrival_s=came - came[0],
            ttft_ms=(began - came) * 1000,
            tpot_ms=(ended - began) * 1000 / np.maximum(tokens - 1, 1),
            residence_s=ended - came,
        )
