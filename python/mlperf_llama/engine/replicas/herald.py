"""Speaks for a member whose loop is busy loading: beats, and what is printed; notices a head that is gone."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict

from ...errors import EXIT_BROKE, MissingError, PipelineError, UsageError
from ...machine.processes import end_children
from . import settings, wire
from .settings import Failure
from .tail import Tail

# What a dying process printed has come through its pipe by then.
PRINTED_S = 0.2
# After the head is gone the engine gets this long to close.
END_S = 10.0


class Herald:
    """A thread beside the loop; ends the process when the head is gone."""

    def __init__(self, sock: socket.socket, tail: Tail) -> None:
        self._sock, self._tail = sock, tail
        self._lock = threading.Lock()
        self._silent = False
        self._thread = threading.Thread(target=self._run, name="herald", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, data: bytes) -> None:
        with self._lock:
            if not self._silent:
                self._sock.sendall(data)

    def printed(self) -> str:
        return self._tail.take()

    def hand_over(self) -> None:
        """The loop writes from now on; the thread only watches."""
        with self._lock:
            self._silent = True

    def report(self, error: PipelineError) -> None:
        """Why loading failed, behind what was printed on the way."""
        # The engine's process may have printed the cause a moment ago.
        time.sleep(PRINTED_S)
        kind = {MissingError: settings.MISSING, UsageError: settings.USAGE}.get(type(error), settings.BROKE)
        with suppress(OSError):
            self.send(wire.words(wire.LOG, self._tail.take(rest=True)))
            self.send(wire.text(wire.FAILED, asdict(Failure(kind, str(error)))))

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        while True:
            gone = bool(poll.poll(1000 * wire.BEAT_S))
            with suppress(OSError):
                self.send(wire.beat(0.0))
                if not self._silent and (printed := self._tail.take()):
                    self.send(wire.words(wire.LOG, printed))
            if gone:
                # The loop sees it too, if it runs, and closes the engine properly.
                time.sleep(END_S if self._silent else 0)
                end_now("the head is gone")


def end_now(reason: str) -> None:
    """End this process and the engine's, whatever they are doing."""
    with suppress(OSError):
        os.write(2, f"worker: {reason}\n".encode())
    end_children()
    os._exit(EXIT_BROKE)
