"""Stages that count nothing: a line every few seconds, with what they are at."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlperf_llama.records.schema import Event
from mlperf_llama.sources.fetch import child
from mlperf_llama.terminal import activity, progress
from mlperf_llama.terminal.progress import TerminalProgress

SHIPPED_S = activity.SILENT_S


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TICK_S", 0.01)
    monkeypatch.setattr(activity, "SILENT_S", 0.05)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_silent_stage_off_a_terminal_says_the_last_line_of_the_log(tmp_path: Path) -> None:
    log, stream = tmp_path / "run.log", io.StringIO()
    log.write_text("of an earlier stage\n")
    shown = TerminalProgress(stream, {}, log=log)
    shown(Event(time="", stage="engine", message="loading the model"))
    until(lambda: stream.getvalue().count("loading the model") >= 2)
    assert "earlier stage" not in stream.getvalue()
    with log.open("a") as file:
        file.write("shards 1 of 4\rshards 2 of 4\r\n\x1b[32mcapturing\n\n")
    until(lambda: "\\x1b[32mcapturing" in stream.getvalue())
    before = stream.getvalue().count("\n")
    until(lambda: stream.getvalue().count("\n") >= before + 3)
    shown.close()
    assert all("engine" in line for line in stream.getvalue().splitlines())
    assert "capturing" not in stream.getvalue().splitlines()[-1], "a stage that is over is at nothing"


def test_lines_come_at_least_every_ten_seconds() -> None:
    assert SHIPPED_S <= 10


def test_a_note_is_shown_while_the_block_runs() -> None:
    stream = io.StringIO()
    with activity.shown("model huggingface", stream):
        until(lambda: stream.getvalue().count("model huggingface  elapsed") >= 1)
        activity.note("model.safetensors: 12.0 MB of\n1.20 GB")
        until(lambda: "  model.safetensors: 12.0 MB of 1.20 GB  elapsed 0:0" in stream.getvalue())
    count = stream.getvalue().count("\n")
    time.sleep(0.2)
    assert (stream.getvalue().count("\n"), activity.latest()) == (count, "")


def test_a_child_tells_the_bytes_that_have_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    monkeypatch.setattr(child.activity, "note", notes.append)
    (tmp_path / "before").write_bytes(b"x" * 5_000_000)
    write = f"open({str(tmp_path / 'new')!r}, 'wb').write(bytes(3_000_000))"
    script = f"import time; time.sleep(.5); {write}; time.sleep(2)"
    child.run(
        "a model from the hub",
        [sys.executable, "-c", script],
        env={},
        stall_s=3,
        timeout_s=20,
        progress=child.growth(tmp_path),
    )
    assert notes[0] == "a model from the hub"
    assert "a model from the hub: 3.0 MB" in notes
    assert notes[-1] == ""


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0.0 MB"), (999_900_000, "999.9 MB"), (16_060_522_496, "16.06 GB")]
)
def test_bytes_in_words(count: int, text: str) -> None:
    assert activity.megabytes(count) == text


def test_a_child_of_the_tests_can_be_interrupted() -> None:
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
