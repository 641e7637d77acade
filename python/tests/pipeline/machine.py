"""Categories of test_pipeline.sh about settings and the machine, decided from the doctor's findings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

from harness import ROOT, Missing, expect, pipeline


def settings() -> str:
    """Wrong ones are refused with code 2 and a line that names them."""
    wrong = {
        "MLPERF_SAMPELS": "8",
        "MLPERF_SAMPLES": "-1",
        "MLPERF_SCENARIO": "Offlin",
        "MLPERF_ROUND": "v1.0",
        "MLPERF_ENGINE_ARGS": "{",
        "MLPERF_DATASET_SOURCE": "/no/such/file.json",
        "MLPERF_RESULTS_DIR": "/proc/none",
    }
    for name, value in wrong.items():
        done = pipeline("run", **{name: value})
        expect(
            done.returncode == 2, f"{name}={value}: expected code 2, found {done.returncode}: {done.stderr}"
        )
        expect(not done.stdout, f"{name}={value}: stdout holds {done.stdout!r}")
        expect(name.removeprefix("MLPERF_") in done.stderr or value in done.stderr, f"{name} is not named")
    return f"{len(wrong)} wrong ones refused"


def findings() -> dict[str, list[dict[str, Any]]]:
    """The doctor's findings by name, with the user's own settings."""
    done = subprocess.run(
        [str(ROOT / "entrypoint.sh"), "doctor", "--json"], capture_output=True, text=True, check=False
    )
    expect(done.returncode in (0, 3), f"doctor: expected code 0 or 3, found {done.returncode}: {done.stderr}")
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(done.stdout)["findings"]:
        found.setdefault(finding["name"], []).append(finding)
    return found


def disk_and_memory() -> str:
    found = findings()
    told = [found[name][0] for name in ("disk for the cache", "disk for results", "memory")]
    bad = [f["detail"] for f in told if f["level"] == "fail"]
    expect(not bad, "; ".join(bad))
    return "; ".join(f["detail"] for f in told)


def network_reach() -> str:
    told = findings().get("network", [])
    expect(bool(told), "the doctor says nothing about the network")
    away = [f["detail"] for f in told if f["level"] != "ok"]
    if away:
        raise Missing("; ".join(away))
    return "; ".join(f["detail"] for f in told)


def container_engine() -> str:
    """An engine answers, and accepts our compose file where it knows Compose."""
    docker = os.environ.get("MLPERF_DOCKER") or "docker"
    told = findings()["container engine"][0]
    compose = ROOT / "docker" / "compose.yaml"
    if shutil.which(docker) is None or _silent(docker, "info").returncode:
        raise Missing(f"no {docker} engine answers; the doctor: {told['detail']}")
    if compose.is_file() and not _silent(docker, "compose", "version").returncode:
        done = _silent(docker, "compose", "--file", str(compose), "config", "--quiet")
        expect(not done.returncode, f"{compose}: {done.stderr}")
    return f"{docker} answers"


def _silent(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def gpu() -> str:
    told = findings()["GPU"][0]
    if told["detail"].startswith("none"):
        raise Missing("no NVIDIA GPU answers here")
    expect(told["level"] == "ok", f"{told['detail']}: {told['remedy']}")
    seen = _silent(sys.executable, "-c", "import torch; print(torch.cuda.device_count())")
    expect(seen.stdout.strip() not in ("", "0"), f"torch sees no GPU: {seen.stderr[-300:]}")
    return str(told["detail"])
