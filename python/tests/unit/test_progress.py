"""The terminal's progress: what reaches the stream, on a terminal and elsewhere."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import pytest
from rich.cells import cell_len

import mlperf_llama
from mlperf_llama.terminal import progress
from mlperf_llama.terminal.progress import TerminalProgress
from mlperf_llama.terminal.stage import Stage, duration, quantity
from mlperf_llama.terminal.style import plain

ANSI = re.compile(r"\x1b\[[0-9;]*[mK]")


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


@pytest.fixture(autouse=True)
def no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are drawn by the events of a test alone, unless it asks for more."""
    monkeypatch.setattr(progress, "TICK_S", 1000.0)


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


def test_what_is_drawn_faster_than_four_times_a_second_is_not_drawn() -> None:
    progress, stream, clock = make(tty=True)
    for done in range(100):
        progress(event(done=done, total=1000))
        clock.now += 0.1
    drawn = stream.getvalue().count("Offline performance")
    progress.close()
    assert 25 <= drawn <= 40, "ten seconds of events"


def test_a_silent_stage_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TICK_S", 0.01)
    shown, stream, clock = make(tty=True)
    shown(event("engine", message="loading"))
    clock.now += 65
    waited = threading.Event()
    for _ in range(1000):
        if "elapsed 1:05" in stream.getvalue() or waited.wait(0.01):
            break
    assert "elapsed 1:05" in stream.getvalue()
    shown.close()


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(env: dict[str, str]) -> None:
    progress, stream, _ = make(tty=True, env=env)
    progress(event(done=1, total=10))
    progress.close()
    assert not re.search(r"\x1b\[[0-9;]*m", stream.getvalue())
    if "TERM" in env:
        assert "\r" not in stream.getvalue(), "a dumb terminal cannot redraw"


def test_without_colour_the_columns_after_the_bar_stay_where_they_are() -> None:
    progress, stream, clock = make(tty=True, env={"NO_COLOR": "1"})
    for done in (20, 80):
        progress(event(done=done, total=99))
        clock.now += 1
    progress.close()
    first, second = (line for line in lines_drawn(stream.getvalue()) if "elapsed" in line)
    assert first.index("%") == second.index("%") and first.count("━") < second.count("━")


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
    assert max(cell_len(line) for line in drawn) < width
    assert any("Offline" in line for line in drawn)


class RealTerminal:
    """A pseudo-terminal; `text` is all that was written to it."""

    def __init__(self, columns: int, lines: int = 24) -> None:
        self._leader, self.descriptor = pty.openpty()
        self._chunks: list[bytes] = []
        self.resize(columns, lines)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def resize(self, columns: int, lines: int = 24) -> None:
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        try:
            while chunk := os.read(self._leader, 65536):
                self._chunks.append(chunk)
        except OSError:
            pass  # the other end is closed

    def end(self) -> str:
        os.close(self.descriptor)
        self._reader.join(10)
        os.close(self._leader)
        return b"".join(self._chunks).decode()


def on_real_terminal(columns: int, body: Callable[[RealTerminal, TextIO], None]) -> str:
    terminal = RealTerminal(columns)
    with os.fdopen(os.dup(terminal.descriptor), "w", encoding="utf-8") as stream:
        body(terminal, stream)
    return terminal.end()


def lines_drawn(text: str) -> list[str]:
    return [ANSI.sub("", part) for line in text.split("\n") for part in line.split("\r")]


RATES = {"unit": "samples", "samples_per_s": 45.1, "tokens_per_s": 5777.0, "eta_s": 80.0}


def test_a_real_terminal_of_80_columns_shows_a_bar_and_keeps_the_last_line() -> None:
    def body(terminal: RealTerminal, stream: TextIO) -> None:
        shown = TerminalProgress(stream, {"COLUMNS": "300"})
        shown(event(done=2500, total=5000, **RATES))
        shown(event(done=5000, total=5000, **RATES))
        shown.close()
        shown(event(done=1, total=5000))
        shown(event("score", done=1, total=2))
        shown.close()

    text = on_real_terminal(80, body)
    drawn = lines_drawn(text)
    assert max(cell_len(line) for line in drawn) < 80
    half = next(line for line in drawn if "50%" in line)
    assert "━━━" in half and "2500/5000 samples" in half and "ETA 1:20" in half
    last = ANSI.sub("", text.rstrip("\r\n").rpartition("\r")[2])
    assert "✓" in last and "100%" in last and "5000/5000 samples" in last
    assert text.endswith("\n") and text.count("\n") == 1, "nothing is written after close"
    assert "\x1b[?25l" not in text, "a run that is killed must not leave the cursor hidden"


def test_a_window_that_changes_its_size_is_followed() -> None:
    def body(terminal: RealTerminal, stream: TextIO) -> None:
        clock = Clock()
        with closing(TerminalProgress(stream, {}, clock)) as shown:
            for done, columns in ((100, 120), (200, 44), (300, 120)):
                terminal.resize(columns)
                clock.now += 1
                shown(event(done=done, total=1000, **RATES))

    drawn = lines_drawn(on_real_terminal(120, body))
    wide, narrow, again = (next(cell_len(s) for s in drawn if word in s) for word in ("10%", "20%", "30%"))
    assert narrow < 44 < wide < 120 and wide == again


def test_the_bar_goes_to_the_terminal_while_output_goes_to_the_log(tmp_path: Path) -> None:
    """As a run does it: descriptors 1 and 2 are a file, the terminal is a stream of its own."""
    code = (
        "import sys; from pathlib import Path; from mlperf_llama.terminal import console, progress\n"
        "with console.captured(Path(sys.argv[1])) as terminal:\n"
        "    shown = progress.TerminalProgress(terminal, {})\n"
        "    shown({'stage': 'engine', 'message': 'loading'}); print('of a library')\n"
        "    shown({'stage': 'load', 'done': 1, 'total': 2}); shown.close()\n"
    )
    terminal = RealTerminal(80)
    env = {"PYTHONPATH": str(Path(mlperf_llama.__file__).parents[1])}
    log = tmp_path / "run.log"
    command, nothing = [sys.executable, "-c", code, str(log)], subprocess.DEVNULL
    subprocess.run(command, check=True, env=env, timeout=60, stdin=nothing, stdout=nothing,
                   stderr=terminal.descriptor)  # fmt: skip
    text = terminal.end()
    assert "of a library" not in text and "━━━" in text and "50%" in text
    assert log.read_text() == "of a library\n"


def test_without_a_terminal_rich_is_not_imported() -> None:
    code = (
        "import sys; from mlperf_llama import doctor; from mlperf_llama.terminal import progress\n"
        "shown = progress.TerminalProgress(sys.stdout, {}); shown({'stage': 'engine'}); shown.close()\n"
        "sys.exit('rich' in sys.modules)"
    )
    env = {"PYTHONPATH": str(Path(mlperf_llama.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, timeout=60)
    assert done.returncode == 0 and b"engine" in done.stdout


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
    progress.close()


def test_words_for_numbers() -> None:
    assert [duration(s) for s in (7, 754, 3723)] == ["0:07", "12:34", "1:02:03"]
    assert [quantity(v) for v in (0.374, 3.4, 45.13, 5777.1)] == ["0.37", "3.40", "45.1", "5777"]
    assert plain("a\x1b[2J\t\n b\u202e\r") == r"a\x1b[2J b\u202e\r"


@pytest.mark.parametrize("tty", [False, True])
def test_a_total_of_zero_or_none_is_no_percentage(tty: bool) -> None:
    assert Stage("data", 0.0, {"done": 0, "total": 0}).share is None
    progress, stream, _ = make(tty)
    progress(event("data", done=3, total=0, unit="files"))
    progress(event("fetch", done=5))
    progress.close()
    assert "%" not in ANSI.sub("", stream.getvalue())
    assert "3 files" in stream.getvalue() and "fetch" in stream.getvalue()


def test_a_message_alone_is_cut_and_one_beside_counts_gives_way() -> None:
    shown_alone, stream, _ = make(tty=True, env={"COLUMNS": "40"})
    shown_alone(event("engine", message="reading the weights of a large model"))
    shown_alone.close()
    assert "reading the weights" in stream.getvalue() and "…" in stream.getvalue()
    beside, stream, _ = make(tty=True, env={"COLUMNS": "80"})
    beside(event(done=1, total=9, message="reading the weights of a large model", **RATES))
    beside.close()
    assert "reading" not in stream.getvalue() and "1/9 samples" in stream.getvalue()
