"""Two processes never work in one run folder, and a lock outlives nobody."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlperf_llama.errors import UsageError
from mlperf_llama.records import lock

PACKAGE = Path(__file__).parents[2]
HOLD = """
import sys, time
from pathlib import Path
from mlperf_llama.records import lock
with lock.held(Path(sys.argv[1]), "execute"):
    print("held", flush=True)
    time.sleep(60)
"""
# As entrypoint.sh: the descriptor stays open while steps come and go.
CHAIN = """
exec 9<>"$1/.lock"
"$2" -c 'import sys
from pathlib import Path
from mlperf_llama.records import lock
with lock.held(Path(sys.argv[1]), "model fake"): pass' "$1"
echo between
read -r _
"""


def start(command: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() in ("held\n", "between\n")
    return process


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A live process that works in the folder."""
    process = start([sys.executable, "-c", HOLD, str(tmp_path)])
    yield process
    process.kill()
    process.wait()


def take(folder: Path) -> None:
    with lock.held(folder, "resume"):
        pass


def test_a_live_one_is_named(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    began = time.monotonic()
    named = rf"found process {other.pid} on {socket.gethostname()} \(execute, since .*\) at work there"
    with pytest.raises(UsageError, match=named):
        take(tmp_path)
    assert time.monotonic() - began < lock.NAMELESS_S


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_that_of_a_killed_one_is_taken_over(
    tmp_path: Path, other: subprocess.Popen[str], number: int
) -> None:
    other.send_signal(number)
    take(tmp_path)
    assert (tmp_path / lock.NAME).read_bytes() == b""


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_is_not_written_through(link: Callable[[Path, Path], None], tmp_path: Path) -> None:
    """A run folder comes from others, and the lock's file is emptied."""
    precious, folder = tmp_path / "precious", tmp_path / "run"
    precious.write_text("kept")
    folder.mkdir()
    link(precious, folder / lock.NAME)
    with pytest.raises(UsageError, match="expected a file of its own for the lock, found a"):
        take(folder)
    assert precious.read_text() == "kept"


def test_it_can_be_taken_again_and_again(tmp_path: Path) -> None:
    for _ in range(3):
        take(tmp_path)


def test_a_chain_keeps_it_between_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "NAMELESS_S", 0.3)
    chain = start(["bash", "-c", CHAIN, "bash", str(tmp_path), sys.executable])
    try:
        with pytest.raises(UsageError, match="found another process"):
            take(tmp_path)
    finally:
        chain.communicate("\n")
    take(tmp_path)


def written(folder: Path, **changes: object) -> Path:
    """A lock's file that names a process that may live or not."""
    path = folder / lock.NAME
    path.touch()
    owner = {
        "pid": 4242,
        "host": "other-host",
        "boot": "another boot",
        "inode": path.stat().st_ino,
        "verb": "execute",
        "since": "2026-01-01T00:00:00+00:00",
    }
    path.write_text(json.dumps({**owner, **changes}))
    return path


def test_that_of_another_host_is_for_a_person_to_break(tmp_path: Path) -> None:
    path = written(tmp_path)
    words = rf"found process 4242 on other-host \(execute, since 2026-01-01.*if it does not: rm {path}$"
    with pytest.raises(UsageError, match=words):
        take(tmp_path)
    path.unlink()
    take(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"host": socket.gethostname()},  # the machine was started again
        {"boot": lock._boot()},  # another container of this machine, or a process that was killed
        {"inode": 1},  # a copy of a folder that somebody works in
    ],
    ids=["restarted", "container", "copy"],
)
def test_one_that_cannot_live_any_more_is_taken_over(tmp_path: Path, changes: dict[str, object]) -> None:
    written(tmp_path, **changes)
    take(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 7}', "\x00\x00"])
def test_a_broken_file_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / lock.NAME).write_text(content)
    take(tmp_path)


def test_a_folder_that_cannot_be_written_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        take(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["execute", "--run-dir"], ["score", "--run-dir"], ["pack"], ["create-run", "--resume"]]
)
def test_what_writes_or_packs_stays_out(
    tmp_path: Path, other: subprocess.Popen[str], words: list[str]
) -> None:
    from mlperf_llama import config
    from mlperf_llama.records.run_folder import RunFolder

    run = RunFolder(tmp_path)
    run.write(config.load({"ENGINE": "fake"}, {}))
    before = sorted(tmp_path.iterdir())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLPERF_")}
    ended = subprocess.run(
        [sys.executable, "-m", "mlperf_llama", *words, str(tmp_path)],
        env={**clean, "PYTHONPATH": str(PACKAGE), "MLPERF_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2 and ended.stdout == ""
    # `execute` also says what its exit code means.
    (line,) = (line for line in ended.stderr.splitlines() if not line.startswith("exit code 2: "))
    assert f"found process {other.pid} on" in line
    assert sorted(tmp_path.iterdir()) == before
