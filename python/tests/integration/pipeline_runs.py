"""Runs the shipped entrypoint as its user would, in folders of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
ARTICLES = ROOT.parent / "shared" / "data" / "cnn_dailymail_60.jsonl"


@dataclass(frozen=True)
class Ended:
    """How a run ended, and its folder (None where none was made)."""

    code: int
    stdout: str
    stderr: str
    folder: Path | None

    def read(self, name: str) -> dict[str, Any]:
        assert self.folder is not None, self.stderr
        found: dict[str, Any] = json.loads((self.folder / name).read_text())
        return found


def environment(
    results: Path, settings: dict[str, object], base: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Only these settings; the environment and the caches are the machine's own. `base`: in the place of
    this process's environment."""
    given = os.environ if base is None else base
    clean = {k: v for k, v in given.items() if not k.startswith("MLPERF_")}
    kept = {k: given[k] for k in ("MLPERF_VENV", "MLPERF_CACHE_DIR") if k in given}
    chosen = {f"MLPERF_{k}": str(v) for k, v in settings.items()}
    return {**clean, **kept, **chosen, "MLPERF_RESULTS_DIR": str(results), "MLPERF_ENV_FILE": "/dev/null"}


def start(
    results: Path,
    arguments: tuple[str, ...],
    settings: dict[str, object],
    base: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(ROOT / "entrypoint.sh"), *arguments],
        cwd=ROOT,
        env=environment(results, settings, base),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], results: Path, timeout_s: float) -> Ended:
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    latest = results / "latest"
    return Ended(process.returncode, stdout, stderr, latest.resolve() if latest.exists() else None)


def entrypoint(results: Path, *arguments: str, timeout_s: float = 600, **settings: object) -> Ended:
    """`entrypoint.sh ARGUMENTS`, to its end."""
    return finish(start(results, arguments, settings), results, timeout_s)


def started_until(stage: str, results: Path, **settings: object) -> subprocess.Popen[str]:
    """`entrypoint.sh run`, once `stage` has begun."""
    process = start(results, ("run",), settings)
    events = results / "latest" / "events.jsonl"
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if events.is_file() and f'"stage": "{stage}"' in events.read_text():
            break
        time.sleep(0.1)
    return process


def interrupted_at(stage: str, results: Path, **settings: object) -> Ended:
    """`entrypoint.sh run`, sent TERM once `stage` has begun."""
    process = started_until(stage, results, **settings)
    process.terminate()
    return finish(process, results, 60)
