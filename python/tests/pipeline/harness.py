"""Starts the shipped entrypoint for test_pipeline.sh, away from the user's settings and folders."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 240.0
FOREIGN = ("MLPERF_", "HF_", "CF_ACCESS_")
# Every connection fails at once: nothing listens on the discard port of this machine.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


class Missing(Exception):
    """This machine lacks what the category needs: it is skipped, with this reason."""


def expect(condition: bool, complaint: str) -> None:
    if not condition:
        raise AssertionError(complaint)


def scratch() -> Path:
    """The folder of this call of test_pipeline.sh, shared by its categories."""
    return Path(os.environ["PIPELINE_SCRATCH"])


def environment(settings: dict[str, str]) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN) or k == "MLPERF_VENV"}
    ours = {
        "MLPERF_ENV_FILE": "/dev/null",
        "MLPERF_RESULTS_DIR": str(scratch() / "results"),
        "MLPERF_CACHE_DIR": str(scratch() / "cache"),
        "MLPERF_ENGINE": "fake",
        "MLPERF_FAKE": '{"samples_per_s": 200}',  # a pace that a busy machine keeps up with
        "MLPERF_DATASET_SOURCE": "synthetic",
        "MLPERF_SAMPLES": "8",
        "MLPERF_SCORE_WORKERS": "1",
    }
    return {**kept, **ours, **settings}


def start(*words: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(ROOT / "entrypoint.sh"), *words],
        cwd=ROOT,
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pipeline(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """entrypoint.sh to its end; `settings` are environment variables."""
    process = start(*words, **settings)
    try:
        out, err = process.communicate(timeout=DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"{words} {settings}: not finished after {DEADLINE_S:.0f} s") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run_expecting(code: int, **settings: str) -> Path:
    """A whole run that ends with `code`; its folder. stdout must hold its path alone, or nothing."""
    done = pipeline("run", **settings)
    tail = done.stderr[-1500:]
    expect(done.returncode == code, f"{settings}: expected code {code}, found {done.returncode}:\n{tail}")
    folder = (scratch() / "results" / "latest").resolve()
    if code in (0, 5):
        expect(done.stdout == f"{folder}\n", f"stdout: expected {folder} alone, found {done.stdout!r}")
    else:
        expect(done.stdout == "", f"stdout: expected nothing, found {done.stdout!r}")
        expect("error:" in done.stderr, f"stderr: expected a line with error:, found:\n{tail}")
        expect("Traceback" not in done.stderr, f"a traceback instead of one clear line:\n{tail}")
    return folder


def read(folder: Path, name: str) -> dict[str, Any]:
    found = json.loads((folder / name).read_text(encoding="utf-8"))
    expect(isinstance(found, dict), f"{name}: expected a JSON object")
    return dict(found)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        expect(time.monotonic() < deadline, f"waited {DEADLINE_S:.0f} s in vain for {what}")
        time.sleep(0.05)
