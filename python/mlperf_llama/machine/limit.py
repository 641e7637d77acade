"""A call that may never return, given up after a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class NoAnswer(TimeoutError):
    """The call has not ended; no TimeoutError of its own."""


def within(seconds: float, call: Callable[[], T], name: str) -> T:
    """What `call` gives or raises; NoAnswer where it has not ended by then. It cannot be ended, only left
    behind: it stays in a thread of this name for as long as the process lives."""
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.done():
            raise
        raise NoAnswer(f"{name} has not answered in {seconds:g} s") from None
