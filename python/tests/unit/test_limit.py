"""A call that may never return: its value, its own error, or NoAnswer."""

from __future__ import annotations

import threading
import time

import pytest

from mlperf_llama.machine.limit import NoAnswer, within


def fail(error: BaseException) -> None:
    raise error


def test_what_the_call_gives() -> None:
    assert within(5, lambda: 7, "seven") == 7


@pytest.mark.parametrize("error", [ValueError("a"), TimeoutError("its own"), KeyboardInterrupt()], ids=repr)
def test_what_the_call_raises_is_its_own(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        within(5, lambda: fail(error), "failing")
    assert caught.value is error and not isinstance(caught.value, NoAnswer)


def test_a_call_that_does_not_end_is_left_behind() -> None:
    end = threading.Event()
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"sleeper has not answered in 0\.1 s"):
        within(0.1, end.wait, "sleeper")
    assert time.monotonic() - began < 5
    end.set()
