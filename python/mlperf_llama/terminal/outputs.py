"""Standard output and standard error as they are found: closed, full, or with a reader that went away.

What cannot be shown never ends a run. A result that cannot be written is one line and code 4; where
nobody reads it (a closed descriptor, a pipe whose reader is gone) it is not missed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from ..errors import BrokeError


class Output:
    """A text stream whose faults end nothing but itself; everything but writing is the stream's own.

    `result`: the text is the command's result, and its loss is a BrokeError.
    """

    def __init__(self, stream: TextIO, result: bool = False) -> None:
        self._stream, self._result = stream, result

    def write(self, value: str) -> int:
        try:
            return self._stream.write(value)
        except OSError as error:
            self._give_up(error)
            return len(value)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """From now on the descriptor takes everything, also what waits in the stream's buffer: Python
        would end with code 120 where its last flush fails."""
        with contextlib.suppress(OSError, ValueError):
            _to_nothing(self._stream.fileno())
        if self._result and not isinstance(error, BrokenPipeError):
            raise BrokeError(
                f"expected to write the result to standard output, found: {error.strerror}; send it elsewhere"
            )

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _to_nothing(descriptor: int) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    if nothing != descriptor:
        os.dup2(nothing, descriptor)
        os.close(nothing)


def tolerant(stream: TextIO) -> TextIO:
    """`stream`, whose faults end nothing."""
    return cast(TextIO, Output(stream))


def open_closed() -> None:
    """Open what the caller closed of the descriptors 0, 1 and 2, for nothing: a file that is opened later
    would take its number, and get what is printed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            _to_nothing(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


@contextmanager
def guarded() -> Iterator[None]:
    """Standard output and standard error as Output; at the end both are as before. A name of a file that
    is not UTF-8 leaves as it came."""
    open_closed()
    before = sys.stdout, sys.stderr
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="surrogateescape")
    sys.stdout, sys.stderr = cast(TextIO, Output(sys.stdout, result=True)), tolerant(sys.stderr)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
