"""Health: does the run in a folder still advance?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from report_samples import START, write_events

from mlperf_llama.machine import health


def folder(path: Path, stage: str, status: str = "running") -> Path:
    """A run whose last event came at START."""
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "results.json").write_text(json.dumps({"status": status}))
    write_events(path / "events.jsonl", [(-60, {"stage": "engine"}), (0, {"stage": stage})])
    for name in ("config.json", "results.json"):
        os.utime(path / name, (START.timestamp() - 100, START.timestamp() - 100))
    return path


def after(path: Path, seconds: float, limit_s: float = 120.0) -> tuple[bool, str]:
    return health.check(path, limit_s, lambda: START + timedelta(seconds=seconds))


def test_advancing_then_silent(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", "Offline performance")
    assert after(run, 119)[0] is True
    healthy, reason = after(run, 121)
    assert healthy is False and "Offline performance" in reason and "121 s ago" in reason


def test_loading_may_be_silent_longer(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", "engine")
    assert after(run, 1500)[0] is True
    assert after(run, 1900)[0] is False


@pytest.mark.parametrize("status", ["complete", "interrupted", "failed"])
def test_an_ended_run_is_healthy(tmp_path: Path, status: str) -> None:
    assert after(folder(tmp_path / "r", "Offline performance", status), 1e6)[0] is True


def test_latest_of_a_results_folder(tmp_path: Path) -> None:
    folder(tmp_path / "a", "Offline performance")
    (tmp_path / "latest").symlink_to("a")
    healthy, reason = after(tmp_path, 10)
    assert healthy and reason.startswith("a:")


def test_nothing_there(tmp_path: Path) -> None:
    assert after(tmp_path, 0)[0] is False


def test_before_the_first_event_the_chain_is_at_work(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", "engine")
    (run / "events.jsonl").unlink()
    assert after(run, 1000)[0] is True
    assert after(run, 1_000_000)[0] is False


def test_a_cut_last_line_is_passed_over(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", "Offline performance")
    with (run / "events.jsonl").open("a") as stream:
        stream.write('{"time": "2026-11-23T12:1')
    assert after(run, 10)[0] is True and after(run, 121)[0] is False


def test_broken_records_are_unhealthy_not_a_crash(tmp_path: Path) -> None:
    run = folder(tmp_path / "r", "Offline performance")
    (run / "results.json").write_text("[1")
    (run / "events.jsonl").write_bytes(b"\xff\xfe\n[]\n3\n")
    assert after(run, 1e6)[0] is False


def test_only_the_standard_library_is_imported() -> None:
    code = "import sys, mlperf_llama.machine.health; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": str(Path(health.__file__).parents[2])})  # fmt: skip
    outside = set(done.stdout.split()) - set(sys.stdlib_module_names) - {"mlperf_llama", "__main__"}
    assert not outside
