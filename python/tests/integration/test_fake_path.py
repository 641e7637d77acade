"""The whole path with the fake engine: all scenarios, resuming, a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pipeline_runs import ROOT, Ended, entrypoint, environment, interrupted_at, started_until

from mlperf_llama import rules
from mlperf_llama.records import requests

FAKE = {"ENGINE": "fake", "DATASET_SOURCE": "synthetic", "SAMPLES": 8}


@pytest.mark.parametrize(
    ("round_name", "category"), [("v5.1", "datacenter"), ("v6.0", "edge"), ("v6.1", "datacenter")]
)
def test_every_scenario_and_mode(tmp_path: Path, round_name: str, category: str) -> None:
    ended = entrypoint(
        tmp_path, "run", SCENARIO="all", MODE="all", ROUND=round_name, CATEGORY=category, **FAKE
    )
    assert ended.code == 0, ended.stderr
    assert ended.stdout.strip() == str(ended.folder)
    assert ended.folder is not None
    results, verdict = ended.read("results.json"), ended.read("verdict.json")
    assert set(results["scenarios"]) == set(rules.CATEGORY_SCENARIOS[category])
    assert 0 < results["engine"]["first_query_s"] < 600
    for scenario, found in results["scenarios"].items():
        performance = found["performance"]
        assert performance["loadgen_result"] == "VALID"
        assert performance["loadgen_errors"] == []
        assert (performance["ttft_p99_ms"] is None) == (scenario == rules.OFFLINE)
        assert (
            len(requests.read(requests.path_in(ended.folder / scenario))) == performance["samples_processed"]
        )
        assert found["accuracy"]["gen_num"] == 8
        assert found["compliance"]["passed"] is True
    passed = {c["name"]: c["passed"] for c in verdict["checks"]}
    assert verdict["submittable"] is False
    assert not passed["engine"]
    assert passed["seal"]
    assert all(passed[f"{s}.performance.seeds"] for s in results["scenarios"])


@pytest.mark.parametrize("ignored", [0, 1])
def test_answers_run_past_their_end_for_speed_alone(tmp_path: Path, ignored: int) -> None:
    fake = json.dumps({"output_tokens": [40, 60]})
    ended = entrypoint(tmp_path, "run", FAKE=fake, IGNORE_EOS=ignored, **FAKE)
    assert ended.code == 0, ended.stderr
    assert ended.folder is not None
    log = json.loads((ended.folder / "Offline/accuracy/mlperf_log_accuracy.json").read_text())
    lengths = {len(entry["data"]) // 8 for entry in log}
    assert lengths == {rules.MAX_NEW_TOKENS} if ignored else max(lengths) < rules.MAX_NEW_TOKENS
    passed = {c["name"]: c["passed"] for c in ended.read("verdict.json")["checks"]}
    assert passed["ignore_eos"] is not bool(ignored)
    assert ("ran past their end tokens" in (ended.folder / "report.md").read_text()) is bool(ignored)


def test_an_interrupted_run_is_resumed_without_repeating_what_was_finished(tmp_path: Path) -> None:
    fake = json.dumps({"samples_per_s": 400})
    ended = interrupted_at("Server performance", tmp_path, FAKE=fake, **FAKE, SCENARIO="Offline,Server")
    assert (ended.code, ended.read("results.json")["status"]) == (143, "interrupted")
    assert ended.folder is not None
    first = (ended.folder / "Offline/performance/run_1/mlperf_log_detail.txt").read_bytes()
    assert set(ended.read("results.json")["scenarios"]) == {"Offline"}

    resumed = entrypoint(tmp_path, "resume", str(ended.folder))
    assert resumed.code == 0, resumed.stderr
    assert resumed.stdout.strip() == str(ended.folder)
    assert (ended.folder / "Offline/performance/run_1/mlperf_log_detail.txt").read_bytes() == first
    results = resumed.read("results.json")
    assert results["status"] == "complete"
    assert {"performance", "accuracy"} <= set(results["scenarios"]["Server"])
    checks = {c["name"]: c["passed"] for c in resumed.read("verdict.json")["checks"]}
    assert checks["seal"]
    again = entrypoint(tmp_path, "resume", str(ended.folder))
    assert again.code == 2
    assert "found a complete one" in again.stderr


def test_a_live_run_is_not_resumed_and_a_killed_one_is(tmp_path: Path) -> None:
    fake = json.dumps({"samples_per_s": 400, "fault": {"hang_at": 200}})
    process = started_until("Offline performance", tmp_path, FAKE=fake, **FAKE)
    folder = (tmp_path / "latest").resolve()
    second = entrypoint(tmp_path, "resume", str(folder))
    assert second.code == 2 and second.stdout == ""
    assert f"found process {process.pid} on" in second.stderr and "(execute, since" in second.stderr
    assert second.read("results.json")["status"] == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("hang_at", "die_at"))
    again = entrypoint(tmp_path, "resume", str(folder))
    # The edit of the settings is one, and the run that hung is none.
    assert again.code == 4 and "resume: finished and kept: no LoadGen run" in again.stderr
    broken = again.read("hashes.json")["broken"]
    assert broken == ["before resume: config.json changed"]
    assert (folder / "unfinished/1/Offline/performance/run_1/mlperf_log_detail.txt").is_file()


def test_resuming_on_other_data_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "mine.jsonl"
    lines = [
        json.dumps({"article": f"Article {i} is short.", "highlights": "It is short."}) for i in range(8)
    ]
    data.write_text("\n".join(lines))
    fault = json.dumps({"fault": {"die_at": 8}})
    settings = {**FAKE, "DATASET_SOURCE": data}
    ended = entrypoint(tmp_path / "results", "run", FAKE=fault, **settings)
    assert ended.code == 4, ended.stderr
    data.write_text("\n".join(reversed(lines)))
    resumed = entrypoint(tmp_path / "results", "resume", str(ended.folder))
    assert resumed.code == 2
    assert "dataset: expected sha256" in resumed.stderr


@pytest.fixture(params=[16, 48, 120])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of a few KiB; root alone can make one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small tmpfs")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_in_one_line(small_disk: Path) -> None:
    ended: Ended = entrypoint(small_disk, "run", **FAKE)
    assert ended.code == 4, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    errors = [line for line in ended.stderr.splitlines() if "error:" in line]
    # A source that broke is named a second time by the chain it ended.
    assert len(errors) == 1 or (len(errors) == 2 and "could be had" in errors[1]), ended.stderr
    assert "No space left on device" in errors[0]


def test_a_full_cache_ends_in_one_line(small_disk: Path, tmp_path: Path) -> None:
    ended = entrypoint(tmp_path / "results", "run", CACHE_DIR=small_disk, **FAKE)
    assert ended.code == 4, ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    errors = [line for line in ended.stderr.splitlines() if "error:" in line or "not here:" in line]
    assert "No space left on device" in errors[0]
    assert "an unexpected fault" not in ended.stderr


def test_a_result_that_cannot_be_written_keeps_the_run(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [str(ROOT / "entrypoint.sh"), "run"],
            cwd=ROOT,
            env=environment(tmp_path, {**FAKE, "MODE": "performance"}),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 4, done.stderr
    assert "standard output" in done.stderr.splitlines()[-1]
    assert json.loads((tmp_path / "latest" / "results.json").read_text())["status"] == "complete"
