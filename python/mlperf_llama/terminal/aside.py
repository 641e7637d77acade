"""A listener in a thread of its own: emitting an event takes no longer, however slow the display is."""

from __future__ import annotations

import queue
import threading
from typing import Protocol

from ..records.schema import Event

# An ending run waits no longer for what is left to show.
LONGEST_S = 5.0


class Display(Protocol):
    """Shows events."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None: ...


class Aside:
    """Call it with each event; `close` shows what is left."""

    def __init__(self, listener: Display) -> None:
        self._listener = listener
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="show", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        self._events.put(event)

    def _work(self) -> None:
        while (event := self._events.get()) is not None:
            self._listener(event)

    def close(self) -> None:
        """Nothing is shown afterwards. May be called twice."""
        self._events.put(None)
        self._thread.join(LONGEST_S)
        self._listener.close()
