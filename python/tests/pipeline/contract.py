"""Category of test_pipeline.sh: what a finished run folder holds (results/README.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness import expect, read, run_expecting, scratch

SECRET = "s3cret-that-must-not-be-kept"
SCENARIOS = {"datacenter": ("Offline", "Server", "Interactive"), "edge": ("SingleStream", "Offline")}
FILES = ("events.jsonl", "report.md", "report.html")
LOGS = ("mlperf_log_summary.txt", "mlperf_log_detail.txt", "mlperf_log_accuracy.json")
JSON_KEYS = {
    "config.json": {"scenario", "mode", "round", "samples"},
    "system.json": {"gpus", "cpu", "memory"},
    "provenance.json": {"round", "loadgen_version", "dataset", "model"},
    "results.json": {"status", "started", "finished", "round", "category", "engine", "scenarios"},
    "verdict.json": {"submittable", "checks"},
}
SERVED = {"source", "path", "sha256", "eligible", "attempts"}
NUMBERS = {
    *("samples_per_second", "tokens_per_second", "total_time_seconds", "samples_processed"),
    *("loadgen_result", "ttft_p99_ms", "tpot_p99_ms", "latency_p90_ms"),
}
SCORES = {"rouge1", "rouge2", "rougeL", "rougeLsum", "gen_len", "gen_num"}


def results_contract() -> str:
    """Every scenario and mode but compliance, in both categories."""
    files = [_folder(category, scenarios) for category, scenarios in SCENARIOS.items()]
    return f"{len(files)} run folders with {sum(files)} files"


def _folder(category: str, scenarios: tuple[str, ...]) -> int:
    folder = run_expecting(
        0,
        MLPERF_SCENARIO="all",
        MLPERF_CATEGORY=category,
        CF_ACCESS_CLIENT_SECRET=SECRET,
    )
    expect((scratch() / "results/latest").is_symlink(), "latest: expected a link")
    for name in FILES:
        expect((folder / name).stat().st_size > 0, f"{name}: expected text, found nothing")
    expect((folder / "run.log").is_file(), "run.log is missing")
    records = {name: read(folder, name) for name in JSON_KEYS}
    for name, keys in JSON_KEYS.items():
        missing = {"schema_version", *keys} - records[name].keys()
        expect(not missing, f"{name}: expected {sorted(missing)}")
        expect(records[name]["schema_version"] == 1, f"{name}: expected schema_version 1")
    for kind in ("dataset", "model"):
        missing = SERVED - records["provenance.json"][kind].keys()
        expect(not missing, f"provenance.json: {kind}: expected {sorted(missing)}")
    _verdict(records["verdict.json"])
    _events(folder / "events.jsonl")
    for scenario in scenarios:
        _scenario(folder, scenario, records["results.json"]["scenarios"][scenario])
    _no_secret(folder)
    return sum(p.is_file() for p in folder.rglob("*"))


def _verdict(verdict: dict[str, Any]) -> None:
    expect(verdict["submittable"] is False, "a fake run was called submittable")
    for check in verdict["checks"]:
        expect({"name", "passed", "detail", "fix"} <= check.keys(), f"verdict.json: a check holds {check}")
    failed = [c for c in verdict["checks"] if c["passed"] is False]
    expect(bool(failed), "verdict.json: no check failed, and yet not submittable")
    expect(all(c["fix"] for c in failed), "verdict.json: a failed check names no fix")


def _events(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        expect({"time", "stage"} <= event.keys(), f"events.jsonl: expected time and stage, found {line}")


def _scenario(folder: Path, scenario: str, found: dict[str, Any]) -> None:
    place = folder / scenario
    for log in LOGS:
        expect(
            (place / "performance/run_1" / log).is_file(), f"{scenario}: performance/run_1/{log} is missing"
        )
        expect((place / "accuracy" / log).is_file(), f"{scenario}: accuracy/{log} is missing")
    for name in ("user.conf", "accuracy/accuracy.txt"):
        expect((place / name).is_file(), f"{scenario}: {name} is missing")
    performance, accuracy = found["performance"], found["accuracy"]
    expect(performance.keys() >= NUMBERS, f"{scenario}: expected {sorted(NUMBERS - performance.keys())}")
    expect(accuracy.keys() >= SCORES, f"{scenario}: expected {sorted(SCORES - accuracy.keys())}")
    expect(performance["loadgen_result"] == "VALID", f"{scenario}: found {performance['loadgen_result']}")
    has_tokens = performance["ttft_p99_ms"] is not None
    expect(has_tokens == (scenario != "Offline"), f"{scenario}: ttft_p99_ms {performance['ttft_p99_ms']}")
    for detail in place.rglob("mlperf_log_detail.txt"):
        expect('"is_error": true' not in detail.read_text(), f"{detail}: LoadGen logged an error")


def _no_secret(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            expect(SECRET.encode() not in path.read_bytes(), f"{path}: holds a secret")
