"""The shipped command with three members on this host: a whole run, and one that loses a member."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from pipeline_runs import Ended, entrypoint, finish, start

FAKE = {"ENGINE": "fake", "DATASET_SOURCE": "synthetic", "GPUS": 3}
SLOW = json.dumps({"ttft_ms": 200, "tpot_ms": 5, "output_tokens": 60})


def test_three_members_run_every_scenario(tmp_path: Path) -> None:
    ended = entrypoint(tmp_path, "run", SCENARIO="all", MODE="all", SAMPLES=24, VERBOSITY="debug", **FAKE)
    assert ended.code == 0, ended.stderr
    shown = [event for event in map(json.loads, events_of(ended)) if "members" in event]
    assert shown and {counts["member"] for event in shown for counts in event["members"]} == {0, 1, 2}
    for index in range(3):
        assert re.search(rf"^    member {index} on \S+, GPU {index}: .*\d+ under way", ended.stderr, re.M)
    results, provenance = ended.read("results.json"), ended.read("provenance.json")
    assert [member["index"] for member in provenance["members"]] == [0, 1, 2]
    assert results["engine"]["settings"]["data_parallel_size"] == 3
    for scenario in results["scenarios"].values():
        performance = scenario["performance"]
        assert performance["loadgen_result"] == "VALID"
        each = [counters["requests"] for counters in performance["member_counters"]]
        assert sum(each) == performance["counters"]["requests"] == performance["samples_processed"]
        assert min(each) > 0
        assert scenario["accuracy"]["gen_num"] == 24
    passed = {check["name"]: check["passed"] for check in ended.read("verdict.json")["checks"]}
    assert passed["members"] and passed["seal"]


def events_of(ended: Ended) -> list[str]:
    assert ended.folder is not None
    return (ended.folder / "events.jsonl").read_text().splitlines()


def with_a_member_killed(results: Path, mode: str) -> tuple[Ended, float]:
    """A Server run whose member 1 is killed in the midst of it; the seconds from then to its end."""
    settings = {**FAKE, "FAKE": SLOW, "SAMPLES": 60, "DURATION_S": 10, "TARGET_QPS": 12, "SCENARIO": "Server"}
    process = start(results, ("run",), {**settings, "MODE": mode})
    events = results / "latest" / "events.jsonl"
    deadline = time.monotonic() + 120
    while not (worker := running(process, events, mode)) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert worker, "the run ended before a member could be killed"
    os.kill(worker.pid, signal.SIGKILL)
    began = time.monotonic()
    return finish(process, results, 120), time.monotonic() - began


def running(process: subprocess.Popen[str], events: Path, mode: str) -> psutil.Process | None:
    """Member 1's process, once the run has answered something."""
    if not events.is_file():
        return None
    shown = [json.loads(line) for line in events.read_text().splitlines() if line.endswith("}")]
    if not any(event["stage"] == f"Server {mode}" and event.get("done") for event in shown):
        return None
    family = psutil.Process(process.pid).children(recursive=True)
    named = [child for child in family if child.cmdline()[-2:] == ["--member", "1"]]
    return named[0] if named else None


@pytest.mark.timeout(300)
def test_a_killed_member_ends_a_performance_run(tmp_path: Path) -> None:
    ended, seconds = with_a_member_killed(tmp_path, "performance")
    assert (ended.code, ended.read("results.json")["status"]) == (4, "failed")
    assert "member 1 on " in ended.stderr and ", GPU 1: ended with code 137" in ended.stderr
    assert seconds < 10
    resumed = entrypoint(tmp_path, "resume", str(ended.folder))
    assert (resumed.code, resumed.folder) == (0, ended.folder), resumed.stderr
    assert [member["index"] for member in resumed.read("provenance.json")["members"]] == [0, 1, 2]
    assert resumed.read("results.json")["scenarios"]["Server"]["performance"]["loadgen_result"] == "VALID"


@pytest.mark.timeout(300)
def test_an_engine_that_hangs_ends_a_performance_run(tmp_path: Path) -> None:
    """Its process lives, and says so."""
    script = json.dumps({"ttft_ms": 20, "tpot_ms": 1, "fault": {"hang_at": 30}, "member": 1})
    settings = {**FAKE, "FAKE": script, "SAMPLES": 60, "TARGET_QPS": 60, "SCENARIO": "Server"}
    ended = entrypoint(tmp_path, "run", MODE="performance", DURATION_S=20, **settings)
    assert (ended.code, ended.read("results.json")["status"]) == (4, "failed")
    assert re.search(
        r"member 1 on \S+, GPU 1: its engine gave no sign for 8 s and has \d+ requests", ended.stderr
    )


@pytest.mark.timeout(300)
def test_an_accuracy_run_goes_on_and_says_so(tmp_path: Path) -> None:
    ended, _ = with_a_member_killed(tmp_path, "accuracy")
    assert ended.code == 0, ended.stderr
    accuracy = ended.read("results.json")["scenarios"]["Server"]["accuracy"]
    assert accuracy["gen_num"] == 60
    (lost,) = accuracy["lost_members"]
    assert (lost["member"], lost["unfinished"] > 0) == (1, True)
    assert any("go to the others, once more" in line for line in events_of(ended))
    assert ended.folder is not None
    assert "GPU 1 was lost: ended with code 137" in (ended.folder / "report.md").read_text()
