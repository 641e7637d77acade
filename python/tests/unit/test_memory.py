"""What ended a process, and how much memory is left."""

from __future__ import annotations

import io
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlperf_llama.loadgen import process
from mlperf_llama.machine import memory


def test_the_kernels_count_of_processes_ended_for_memory(tmp_path: Path) -> None:
    file = tmp_path / "vmstat"
    file.write_text("nr_free_pages 5\noom_kill 12\n")
    assert memory.memory_kills(file) == 12
    file.write_text("nr_free_pages 5\n")
    assert memory.memory_kills(file) == 0
    assert memory.memory_kills(tmp_path / "none") == 0


def test_free_memory_is_less_than_the_machines() -> None:
    assert 0 < memory.free_bytes() < 1 << 50


def test_a_control_group_limits_it_and_its_cached_files_count_as_free(tmp_path: Path) -> None:
    machine = memory.free_bytes(tmp_path / "none")
    limits = {"memory.max": "100000000", "memory.current": "90000000"}
    for name, text in {**limits, "memory.stat": "anon 5\nfile 80000000\nshmem 20000000\n"}.items():
        (tmp_path / name).write_text(text)
    assert memory.free_bytes(tmp_path) == min(machine, 70_000_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_bytes(tmp_path) > 70_000_000


@pytest.mark.parametrize(("kills", "words"), [(1, "for want of memory"), (0, "by SIGKILL")])
def test_a_child_killed_for_memory_is_named_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int, words: str
) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    own, _ = socket.socketpair()
    started = process.Child(child, own, io.BytesIO(), memory_kills=3)
    monkeypatch.setattr(process, "memory_kills", lambda: 3 + kills)
    child.send_signal(signal.SIGKILL)
    assert words in str(started.broke("6.0", tmp_path))
