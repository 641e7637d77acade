"""The engine's protocol: token ids in, token ids out. Knows no benchmark.

Every engine lives on one asyncio loop for its whole life and passes the tests in
tests/unit/test_engine_protocol.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..records.schema import SelfCheck

Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class Request:
    """One query sample. `id` is unique within a run; `prompt` is token ids."""

    id: int
    prompt: Tokens


@dataclass(frozen=True)
class Limits:
    """Greedy generation's bounds, in tokens; `stop_ids` end a response and stay in it."""

    max_new_tokens: int
    min_new_tokens: int
    stop_ids: tuple[int, ...]


@dataclass(frozen=True)
class EngineInfo:
    """What was loaded, for provenance: `settings` as the engine really uses them; `arguments` as it was
    given them, and `resolved`, its whole configuration, where it has any. `self_check` where an extension
    changes what computes: one that was not passed must serve nothing."""

    name: str
    version: str
    settings: dict[str, object]
    load_s: float
    details: dict[str, object] = field(default_factory=dict)
    self_check: SelfCheck | None = None
    arguments: dict[str, object] = field(default_factory=dict)
    resolved: dict[str, object] = field(default_factory=dict)


class Sink(Protocol):
    """Where responses go. Called on the engine's loop; must not block."""

    def first_token(self, request_id: int, token: int) -> None: ...

    def completed(self, request_id: int, tokens: Tokens) -> None: ...

    def failed(self, error: Exception) -> None:
        """The engine is dead: nothing more will come."""


Progress = Callable[[str], None]


class Engine(Protocol):
    """A loaded model. `submit` returns at once; responses reach the sink in any order."""

    async def start(self, progress: Progress) -> EngineInfo:
        """Load the model. MissingError: something is not here; BrokeError: it died."""

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        """Queue requests. With `streaming`, first_token comes before completed."""

    def counters(self) -> dict[str, float]:
        """Running totals, such as preemptions; empty where unknown."""

    async def close(self) -> None:
        """Free everything; ends within seconds, also after a failure."""
