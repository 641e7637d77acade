"""The energy of a run, from a made-up NVML to results.json and the report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pipeline_runs import ROOT, environment

SETTINGS = {
    "ENGINE": "fake",
    "DATASET_SOURCE": "synthetic",
    "SAMPLES": 8,
    "MODE": "performance",
    "SCENARIO": "Server",
    "DURATION_S": 1,
    "TARGET_QPS": 600,
}
DRIVER = Path(__file__).with_name("energy_driver.py")


def run(env: dict[str, str], *arguments: str) -> str:
    ended = subprocess.run(
        [sys.executable, *arguments], env=env, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_run_records_what_its_timed_part_drew(tmp_path: Path) -> None:
    env = {**environment(tmp_path, SETTINGS), "PYTHONPATH": str(ROOT / "python")}
    created = run(env, "-m", "mlperf_llama", "create-run")
    folder = created.split("run_dir=")[1].splitlines()[0]
    for source in (("model", "fake"), ("dataset", "synthetic")):
        run(env, "-m", "mlperf_llama", *source, "--run-dir", folder)
    run(env, str(DRIVER), folder)
    results = json.loads((Path(folder) / "results.json").read_text())
    performance = results["scenarios"]["Server"]["performance"]
    energy, driven = performance["energy"], performance["driven"]
    assert (energy["method"], energy["gpus"], energy["peak_w"]) == ("counter", 2, 600)
    assert energy["seconds"] == pytest.approx(driven["seconds"], abs=0.002), "the timed part alone"
    # A busy machine reads the counter a little after the clock.
    assert energy["joules"] == pytest.approx(600 * driven["seconds"], rel=0.05)
    assert "not MLPerf Power" in (Path(folder) / "report.md").read_text()
