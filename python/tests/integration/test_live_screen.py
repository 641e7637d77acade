"""The screen of a run in a terminal: a Server run that turns INVALID, at 80x24 and at 200x50."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline_runs import ROOT, environment
from rich.cells import cell_len

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

# 464 queries come in 8 seconds, and leave in 12: TTFT passes 80% of its limit, a second later the limit.
FAKE = {"samples_per_s": 40, "ttft_ms": 20, "tpot_ms": 1}
SETTINGS = {
    "ENGINE": "fake",
    "DATASET_SOURCE": "synthetic",
    "SAMPLES": 8,
    "SCENARIO": "Server",
    "MODE": "performance",
    "TARGET_QPS": 60,
    "FAKE": json.dumps(FAKE),
}
SIZES = ((80, 24), (200, 50))
RED, YELLOW, GREEN = 31, 33, 32


class Tmux:
    """A tmux server of the test's own, with one window."""

    def __init__(self, folder: Path, env: dict[str, str], command: str) -> None:
        self._socket, self._env = str(folder / "tmux"), env
        columns, rows = SIZES[0]
        self("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), command)

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self._socket, *words], env=self._env, capture_output=True, text=True, timeout=20
        )
        return done.stdout

    def resize(self, columns: int, rows: int) -> None:
        self("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self, colours: bool = False) -> list[str]:
        return self("capture-pane", "-p", *(["-e"] if colours else [])).splitlines()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Tmux]:
    env = environment(tmp_path / "results", {**SETTINGS})
    command = f"{shlex.quote(str(ROOT / 'entrypoint.sh'))} run; echo ended with $?; exec sleep 60"
    tmux = Tmux(tmp_path, {**env, "LANG": "C.UTF-8", "TERM": "xterm-256color"}, command)
    yield tmux
    tmux("kill-server")


def wait_for(tmux: Tmux, pattern: str, seconds: float = 60.0) -> list[str]:
    """The screen once a line of it matches."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lines = tmux.screen()
        if any(re.search(pattern, line) for line in lines):
            return lines
        time.sleep(0.1)
    raise AssertionError(f"no line like {pattern!r} in:\n" + "\n".join(tmux.screen()))


def colour_of(tmux: Tmux, label: str) -> set[int]:
    """The colours of the line that begins with `label`."""
    line = next((line for line in tmux.screen(colours=True) if label in line), "")
    return {int(code) for codes in re.findall(r"\x1b\[([0-9;]*)m", line) for code in codes.split(";") if code}


def test_a_run_that_turns_invalid_says_so_on_every_terminal(terminal: Tmux) -> None:
    wait_for(terminal, r"^TTFT .*(8|9)\d% of 2,000 ms|^limits +TTFT near")
    assert YELLOW in colour_of(terminal, "TTFT") and GREEN in colour_of(terminal, "TPOT")
    for columns, rows in SIZES:
        terminal.resize(columns, rows)
        lines = wait_for(terminal, r"^limits +TTFT over the limit: INVALID, as it stands")
        time.sleep(0.7)
        lines = terminal.screen()
        [top] = [n for n, line in enumerate(lines) if line.startswith("Server performance")]
        lines = lines[top:]
        assert max(cell_len(line) for line in lines) < columns
        assert any(re.match(r"requests +\d+ waiting  \d+ running  \d+ done", line) for line in lines)
        assert any(re.match(r"TPOT .*of 100 ms$", line) for line in lines)
        assert RED in colour_of(terminal, "TTFT")
    lines = wait_for(terminal, r"ended with \d")
    told = "\n".join(terminal("capture-pane", "-p", "-J", "-S", "-200").splitlines())
    assert re.search(r"Server INVALID: TTFT p99 [\d,]+ ms, limit 2,000 .* Lower TARGET_QPS from 60", told)
    assert "exit code 5: finished but not valid" in told and "ended with 5" in told
    assert "the same again: make run SCENARIO=Server" in told
