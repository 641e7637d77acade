"""What a server sends of one answer, put together chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ...errors import BrokeError

# Statuses of a server that has too much to do; it may take the same request later.
BUSY = (429, 503)


class ServerError(BrokeError):
    """A request that a server did not answer. `status`: its HTTP status, where it gave one; `unsent`: the
    connection ended before the server sent anything; `wait_s`: how long the server asks to wait."""

    def __init__(
        self, text: str, status: int | None = None, unsent: bool = False, wait_s: float | None = None
    ) -> None:
        super().__init__(text)
        self.status, self.unsent, self.wait_s = status, unsent, wait_s


class ServerLostError(ServerError):
    """No connection, no answer in time, or one that was cut off."""


@dataclass(slots=True)
class Answer:
    """`tokens`: the ids so far, empty of a server that gives text alone; `texts`: chunks with text. The
    counts and `prompt_ids` are what the server says, None where it does not."""

    tokens: list[int] = field(default_factory=list)
    texts: int = 0
    finished: bool = False
    prompt_ids: list[int] | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def begun(self) -> bool:
        return bool(self.tokens or self.texts)


# Puts one JSON message of a server's into an answer.
Take = Callable[[Answer, bytes], None]
# Told of an answer once it has begun.
First = Callable[[Answer], None]


class EventLines:
    """Cuts a stream of server-sent events into the data of each; `done` once the server has said so."""

    END = b"[DONE]"

    def __init__(self) -> None:
        self._rest = b""
        self.done = False

    def feed(self, data: bytes) -> list[bytes]:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        events = [line[5:].strip() for line in lines if line.startswith(b"data:")]
        if self.END in events:
            self.done = True
            events.remove(self.END)
        return events
