"""First tokens and answers on their way from an engine: those of one iteration of the loop leave together.

Nothing here formats text, logs or touches the disk.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable

from . import Tokens, frames


class Outbox:
    """`leave`: sends what it is given, one frame of first tokens and one of answers at most."""

    def __init__(self, loop: asyncio.AbstractEventLoop, leave: Callable[[bytes], None]) -> None:
        self._loop, self._leave = loop, leave
        self._due = False
        self._clear()

    def _clear(self) -> None:
        self._first_ids, self._first_tokens = array("Q"), array("i")
        self._ids, self._lengths, self._tokens = array("Q"), array("i"), array("i")

    def first_token(self, number: int, token: int) -> None:
        self._first_ids.append(number)
        self._first_tokens.append(token)
        if not self._due:
            self._flush_soon()

    def completed(self, number: int, tokens: Tokens) -> None:
        self._ids.append(number)
        self._lengths.append(len(tokens))
        self._tokens.extend(tokens)
        if not self._due:
            self._flush_soon()

    def _flush_soon(self) -> None:
        self._due = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._due = False
        parts = []
        if self._first_ids:
            parts.append(frames.first_tokens(self._first_ids, self._first_tokens))
        if self._ids:
            parts.append(frames.completions(self._ids, self._lengths, self._tokens))
        self._clear()
        self._leave(b"".join(parts))
