"""What this process and its engine print, kept until the head has it.

The cause of a failed load stands only there: an engine's process prints it before its parent raises a vaguer
error. Descriptors 1 and 2 go through a pipe, and on to where standard error went.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from types import TracebackType

MOST = 1 << 16
# A process that still holds the pipe must not hold up the end.
END_S = 0.5


class Tail:
    """`with Tail() as tail:` ... `tail.take()`. Of more than MOST bytes the last are kept."""

    def __init__(self) -> None:
        self._kept = b""
        self._lock = threading.Lock()
        self._saved: tuple[int, int] | None = None
        self._reader: threading.Thread | None = None

    def __enter__(self) -> Tail:
        sys.stdout.flush()
        sys.stderr.flush()
        self._saved = (os.dup(1), os.dup(2))
        read, write = os.pipe()
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        self._reader = threading.Thread(target=self._read, args=(read, self._saved[1]), daemon=True)
        self._reader.start()
        return self

    def _read(self, read: int, onward: int) -> None:
        while data := os.read(read, 1 << 16):
            with self._lock:
                self._kept = (self._kept + data)[-MOST:]
            with suppress(OSError):
                os.write(onward, data)

    def take(self, rest: bool = False) -> str:
        """Whole lines that were printed since the last call; `rest`: and what has no end yet."""
        with self._lock:
            cut = len(self._kept) if rest else self._kept.rfind(b"\n") + 1
            taken, self._kept = self._kept[:cut], self._kept[cut:]
        return taken.decode("utf-8", "replace")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        assert self._saved and self._reader
        os.dup2(self._saved[0], 1)
        os.dup2(self._saved[1], 2)
        self._reader.join(END_S)
