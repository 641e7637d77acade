"""The terminal's progress: what reaches the stream, on a terminal and elsewhere."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import re
import struct
import termios
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from mlperf_llama.terminal.progress import ProgressHandler, TerminalProgress
from mlperf_llama.terminal.progress_line import RUNNING, Style, cells, duration, fit, quantity, stage_line

ANSI = re.compile(r"\x1b\[[0-9;]*[mK]")
NOW = datetime(2026, 11, 23, 12, 0, 0)


class Terminal(io.StringIO):
    """A stream that says whether it is a terminal."""

    def __init__(self, tty: bool, encoding: str = "utf-8") -> None:
        super().__init__()
        self._tty, self._named = tty, encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._named

    def isatty(self) -> bool:
        return self._tty

    def fileno(self) -> int:
        raise OSError("no descriptor")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def event(stage: str = "Offline performance", **fields: Any) -> dict[str, Any]:
    return {"time": "2026-11-23T12:00:00+00:00", "stage": stage, **fields}


def shown(stream: Terminal) -> list[str]:
    """What is left on each line once every redraw is done."""
    return [ANSI.sub("", line.rpartition("\r")[2]) for line in stream.getvalue().split("\n")]


def make(
    tty: bool, env: Mapping[str, str] | None = None, encoding: str = "utf-8"
) -> tuple[TerminalProgress, Terminal, Clock]:
    stream, clock = Terminal(tty, encoding), Clock()
    return TerminalProgress(stream, {"COLUMNS": "100", **(env or {})}, clock), stream, clock


def test_without_a_terminal_a_line_at_the_start_every_few_seconds_and_at_the_end() -> None:
    progress, stream, clock = make(tty=False)
    for done in range(101):
        progress(event(done=done, total=100, unit="samples", samples_per_s=10.0, tokens_per_s=1280.0))
        clock.now += 0.2
    progress.close()
    lines = stream.getvalue().splitlines()
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()
    assert "0/100 samples" in lines[0] and "100/100 samples" in lines[-1] and lines[-1].endswith("done")
    # 20 seconds with one line every 5, beside the first and the last.
    assert len(lines) == 5
    assert "10.0 samples/s" in lines[1] and "1280 tok/s" in lines[1]


def test_a_stage_without_total_is_told_when_it_starts_and_when_the_next_one_does() -> None:
    progress, stream, clock = make(tty=False)
    progress(event("engine", message="loading weights"))
    clock.now += 30
    progress(event("warm-up", message="made-up prompts"))
    progress.close()
    lines = stream.getvalue().splitlines()
    assert "engine" in lines[0] and "loading weights" in lines[0]
    assert "engine" in lines[1] and "in 0:30" in lines[1] and lines[1].endswith("done")
    # Nothing says that the last stage got through: the run may have died in it.
    assert "warm-up" in lines[-1] and lines[-1].endswith("ended")


def test_a_stage_that_was_cut_short_is_not_called_done() -> None:
    progress, stream, _ = make(tty=False)
    progress(event(done=3, total=10))
    progress.close()
    assert stream.getvalue().splitlines()[-1].endswith("stopped")


def test_on_a_terminal_one_line_is_redrawn_and_each_stage_leaves_one() -> None:
    progress, stream, clock = make(tty=True)
    for done in range(11):
        progress(event(done=done, total=10, unit="samples", eta_s=10.0 - done))
        clock.now += 1
    progress(event("score Offline", done=1, total=2))
    progress.close()
    lines = shown(stream)
    assert lines[-1] == "" and len(lines) == 3, "one line a stage, and a newline at the end"
    assert "100%" in lines[0] and "━" in lines[0] and "✓" in lines[0]
    assert "50%" in lines[1] and "·" in lines[1]
    assert "ETA 0:05" in ANSI.sub("", stream.getvalue())


def test_events_faster_than_the_eye_are_not_all_drawn() -> None:
    progress, stream, clock = make(tty=True)
    for done in range(1000):
        progress(event(done=done, total=10_000))
        clock.now += 0.001
    progress.close()
    assert stream.getvalue().count("\r") < 20


def test_a_message_stands_on_its_own_line_above_the_bar() -> None:
    progress, stream, _ = make(tty=True)
    progress(event(done=1, total=10))
    progress.message("low memory", "warning")
    progress.close()
    lines = shown(stream)
    assert "warning: low memory" in lines[0] and "%" not in lines[0]
    assert "10%" in lines[1]


def test_log_records_go_through_the_bar() -> None:
    progress, stream, _ = make(tty=True)
    progress(event(done=1, total=10))
    ProgressHandler(progress).handle(logging.makeLogRecord({"msg": "queue full", "levelname": "WARNING"}))
    progress.close()
    assert "queue full" in shown(stream)[0]


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(env: dict[str, str]) -> None:
    progress, stream, _ = make(tty=True, env=env)
    progress(event(done=1, total=10))
    progress.message("x", "error")
    progress.close()
    assert not re.search(r"\x1b\[[0-9;]*m", stream.getvalue())
    if "TERM" in env:
        assert "\r" not in stream.getvalue(), "a dumb terminal cannot redraw"


def test_colour_on_a_plain_terminal() -> None:
    progress, stream, _ = make(tty=True)
    progress(event(done=1, total=10))
    progress.close()
    assert "\x1b[32m" in stream.getvalue()


@pytest.mark.parametrize("width", [20, 30, 45, 60, 79, 100, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    progress, stream, _ = make(tty=True, env={"COLUMNS": str(width)})
    progress(event(done=12345, total=13368, unit="samples", samples_per_s=45.13, tokens_per_s=5777.0,
                   eta_s=4000.0, message="日本語 " * 10))  # fmt: skip
    progress.close()
    drawn = [ANSI.sub("", part) for line in stream.getvalue().split("\n") for part in line.split("\r")]
    assert max(cells(line) for line in drawn) < width
    assert any("Offline" in line for line in drawn)


def test_the_width_of_a_real_terminal_is_used() -> None:
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 48, 0, 0))
    with os.fdopen(follower, "w", encoding="utf-8") as stream:
        with TerminalProgress(stream, {"COLUMNS": "300"}) as progress:
            progress(event(done=1, total=10, unit="samples", samples_per_s=1.0, tokens_per_s=2.0))
        text = os.read(leader, 65536).decode()
    os.close(leader)
    drawn = [ANSI.sub("", p) for line in text.split("\n") for p in line.split("\r")]
    assert "10%" in text and max(cells(line) for line in drawn) < 48


def test_an_ascii_stream_gets_ascii() -> None:
    progress, stream, _ = make(tty=True, encoding="ascii")
    progress(event(done=5, total=10))
    progress.close()
    assert ANSI.sub("", stream.getvalue()).isascii()


def test_control_characters_of_a_message_never_reach_the_terminal() -> None:
    progress, stream, _ = make(tty=False)
    progress(event("engine", message="bad\x1b[2J\r\nname"))
    progress.close()
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()


def test_a_stream_that_goes_away_never_ends_the_run() -> None:
    progress, stream, _ = make(tty=True)
    progress(event(done=1, total=10))
    stream.close()
    progress(event(done=10, total=10))
    progress.message("still here")
    progress.close()


def test_words_for_numbers() -> None:
    assert [duration(s) for s in (7, 754, 3723)] == ["0:07", "12:34", "1:02:03"]
    assert [quantity(v) for v in (0.374, 3.4, 45.13, 5777.1)] == ["0.37", "3.40", "45.1", "5777"]
    assert fit("abcdef", 4) == "abc…" and fit("abc", 4) == "abc"


def test_a_total_of_zero_is_no_percentage() -> None:
    line = stage_line("data", {"done": 0, "total": 0}, 1.0, RUNNING, NOW, 80, Style())
    assert "%" not in line and "data" in line
