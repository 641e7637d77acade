"""Outputs that are closed, full or without a reader, and names that no file can have."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlperf_llama import __main__ as command
from mlperf_llama.terminal import console

PACKAGE = Path(__file__).resolve().parents[2]
RESULT = "env-example"
FAULT = "verdict --run-dir /nowhere"
LONG = "n" * 300


def run(words: str, tmp_path: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """`mlperf-llama WORDS`, the redirections among them, as a shell runs it."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLPERF_")}
    return subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$0" -m mlperf_llama {words}', sys.executable],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": str(PACKAGE), **env},
        capture_output=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        pytest.param(f"{RESULT} >/dev/full", 4, b"standard output", id="full"),
        pytest.param("run --help >/dev/full", 4, b"standard output", id="full, help"),
        pytest.param(f"{RESULT} >/dev/full 2>/dev/full", 4, b"", id="both full"),
        pytest.param(f"{FAULT} 2>/dev/full", 2, b"", id="full errors"),
        pytest.param(f"{FAULT} >/dev/full", 2, b"/nowhere", id="a fault and a full output"),
        pytest.param(f"{RESULT} >&-", 0, b"", id="closed"),
        pytest.param(f"{FAULT} 2>&-", 2, b"", id="closed errors"),
        pytest.param(f"{RESULT} <&- >&- 2>&-", 0, b"", id="all closed"),
        pytest.param(f"{RESULT} | true", 0, b"", id="no reader"),
    ],
)
def test_outputs_as_they_are_found(words: str, code: int, error: bytes, tmp_path: Path) -> None:
    ended = run(words, tmp_path)
    lines = ended.stderr.splitlines()
    assert ended.returncode == code, ended.stderr
    assert b"Traceback" not in ended.stderr
    assert len(lines) == (1 if error else 0)
    assert error in ended.stderr


def test_a_closed_output_gives_its_number_to_no_file(tmp_path: Path) -> None:
    ended = run("create-run 2>&- >&-", tmp_path, MLPERF_ENGINE="fake")
    assert ended.returncode == 0
    assert len(list(tmp_path.glob("results/2*/config.json"))) == 1
    assert not any(b"run_dir=" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("words", "env"),
    [
        (f"verdict --run-dir {LONG}", {}),
        (f"plan --cache-dir {LONG}", {"MLPERF_ENV_FILE": LONG}),
        ("verdict --run-dir /dev/null/run", {}),
        ("plan", {"MLPERF_ENV_FILE": "nul.env"}),
    ],
)
def test_a_name_that_no_file_can_have_is_code_2(words: str, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "nul.env").write_bytes(b"MLPERF_MODEL=a\0b\n")
    ended = run(words, tmp_path, **env)
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1, ended.stderr
    assert len(ended.stderr) < 350


@pytest.mark.parametrize("name", ["MLPERF_RESULTS_DIR", "MLPERF_MODEL", "MLPERF_CACHE_DIR"])
def test_a_setting_that_is_not_utf_8_is_code_2(name: str, tmp_path: Path) -> None:
    ended = run("create-run", tmp_path, MLPERF_ENGINE="fake", **{name: os.fsdecode(b"a\xff")})
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"error: {name}: expected text in UTF-8".encode())
    assert len(ended.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_no_run_begins_below_a_folder_that_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    ended = run("create-run", folder, MLPERF_ENGINE="fake")
    assert ended.returncode == 2, ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_run_folder_that_was_moved_to_such_a_path_is_read(tmp_path: Path) -> None:
    assert run("create-run", tmp_path, MLPERF_ENGINE="fake").returncode == 0
    moved = tmp_path / os.fsdecode(b"\xff")
    os.rename(tmp_path / "results", moved)
    ended = run("report --run-dir $'\\xff/latest'", tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert os.fsencode(moved) in ended.stdout


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("I/O error: No space left on device (os error 28)"), 4),
        (RuntimeError("Read-only file system (os error 30)"), 4),
        (OSError(errno.EIO, "Input/output error"), 4),
        (RuntimeError("no such thing"), 1),
    ],
)
def test_an_error_of_the_system_is_known_in_a_librarys_words(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command._end_of(error) == code
    shown = capsys.readouterr().err
    assert ("Traceback" in shown) == (code == 1) or "RuntimeError" in shown
    assert (len(shown.splitlines()) == 1) == (code == 4)


def test_the_terminal_comes_back_from_a_log_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.redaction, "scrub", lambda path: None)
    before = os.fstat(2).st_ino, os.fstat(1).st_ino

    class Full:
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    with console.captured(Path("/dev/null")):
        pass
    assert (os.fstat(2).st_ino, os.fstat(1).st_ino) == before
