"""make tune through the shipped entrypoint and real LoadGen, with the fake engine as the machine.

Runs are seconds long, so an interrupted search, a crash and the use of what was found can be
seen whole. How close a search comes to the truth is tests/unit/test_tune_search.py's.
"""

from __future__ import annotations

import json
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from pipeline_runs import Ended, entrypoint, finish, start

from mlperf_llama import rules
from mlperf_llama.tune.forecast import Goal, load_for_wait

pytestmark = pytest.mark.timeout(900)
SERVICE_S = 1 / 150
QUEUE = {"samples_per_s": 150, "ttft_ms": 5, "tpot_ms": 2}
DURATION_S = 8.0
SHORT: dict[str, object] = {
    "ENGINE": "fake",
    "SCENARIO": "Server",
    "DATASET_SOURCE": "synthetic",
    "SAMPLES": 300,
    "DURATION_S": DURATION_S,
    "PROBE_S": 3,
}


def tune(results: Path, script: dict[str, Any], **settings: object) -> Ended:
    return entrypoint(results, "tune", **{**SHORT, "FAKE": json.dumps(script), **settings})


def probes(ended: Ended, scenario: str = "Server") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ended.read("tuning.json")["scenarios"][scenario]["probes"]
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuned")


@pytest.fixture(scope="module")
def found(results: Path) -> Ended:
    return tune(results, QUEUE)


def test_the_search_ends_valid_near_the_truth(found: Ended) -> None:
    assert found.code == 0, found.stderr
    assert found.folder and found.stdout == f"{found.folder}\n"
    record = found.read("tuning.json")["scenarios"]["Server"]
    last = [p for p in record["probes"] if p["kind"] == "confirm" and p["qps"] == record["answer"]]
    assert last[-1]["loadgen_result"] == "VALID"
    assert sum(p["kind"] == "probe" for p in record["probes"]) <= 8
    ttft_ms, tpot_ms = rules.TOKEN_LATENCY_LIMITS_MS["Server"]
    goal = Goal(ttft_ms, tpot_ms, rules.ROUNDS["v6.1"].schedule_rng_seed, 300, DURATION_S)
    truth = load_for_wait(goal, SERVICE_S, (ttft_ms - 5) / 1000, 600.0)
    # A shared, busy machine only ever slows a fake engine down.
    assert 0.9 * truth <= record["answer"] <= 1.03 * truth


def test_every_probe_left_its_logs(found: Ended) -> None:
    assert found.folder
    for probe in probes(found):
        assert (found.folder / probe["folder"] / "mlperf_log_summary.txt").is_file()
        assert probe["preemptions"] == 0


def test_the_report_shows_it(found: Ended) -> None:
    assert found.folder
    text = (found.folder / "report.md").read_text()
    assert "Loads tried, Server" in text and "confirmed VALID" in text
    assert "TTFT and TPOT as shares of their limits" in (found.folder / "report.html").read_text()


def test_a_run_uses_what_was_found_and_the_user_beats_it(found: Ended, results: Path) -> None:
    answer = found.read("tuning.json")["scenarios"]["Server"]["answer"]
    asked = {**SHORT, "FAKE": json.dumps(QUEUE), "MODE": "performance"}
    for settings, wanted in (({}, answer), ({"TARGET_QPS": 40}, 40)):
        ended = entrypoint(results, "run", **{**asked, **settings})
        assert ended.folder
        conf = (ended.folder / "Server/user.conf").read_text()
        assert f"*.Server.target_qps = {wanted}" in conf


def test_a_time_per_token_that_grows_with_the_load(tmp_path: Path) -> None:
    # With N in service an answer takes 15 (2 + 0.1556 N) ms: at 30 ms a token N is 180, at 400 a second.
    # Short answers, so that a probe holds many: the machine has to come to rest in it.
    script = {"output_tokens": 16, "tpot_ms": 2, "busy_tpot_ms": 0.1556}
    ended = tune(tmp_path, script, SCENARIO="Interactive", DURATION_S=4, TARGET_QPS=300)
    assert ended.code == 0, ended.stderr
    tried = probes(ended, "Interactive")
    assert tried[0]["qps"] == 300, "a search begins where the user says"
    nearest = max(tried, key=lambda p: p["tpot_p99_ms"])
    assert nearest["tpot_p99_ms"] / 30 > nearest["ttft_p99_ms"] / 500
    assert 240 < ended.read("tuning.json")["scenarios"]["Interactive"]["answer"] < 440


def test_a_machine_that_crashes_goes_on(tmp_path: Path) -> None:
    # A search begins with three probes, each of at least 500 queries: an engine that dies after 1,300
    # answers never ends the third one. The next engine has room for any one run.
    script = {**QUEUE, "fault": {"die_at": 1300}}
    ended = tune(tmp_path, script, TARGET_QPS=100, DURATION_S=4, PROBE_S=3)
    crashed = [n for n, p in enumerate(probes(ended)) if "error" in p]
    assert crashed, "the fault never came"
    again = probes(ended)[crashed[0] + 1]
    assert again["qps"] == probes(ended)[crashed[0]]["qps"] and "error" not in again
    assert ended.code == 0, ended.stderr


def test_an_interrupted_search_goes_on(tmp_path: Path) -> None:
    process = start(tmp_path, ("tune",), {**SHORT, "FAKE": json.dumps(QUEUE)})
    record = tmp_path / "latest" / "tuning.json"
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if record.is_file() and '"forecast"' in record.read_text():
            break
        time.sleep(0.1)
    time.sleep(1)
    process.terminate()
    stopped = finish(process, tmp_path, 60)
    assert stopped.code == 143, stopped.stderr
    assert stopped.read("results.json")["status"] == "interrupted"
    before = probes(stopped)
    ended = entrypoint(tmp_path, "resume", str(stopped.folder))
    assert ended.code == 0, ended.stderr
    assert ended.folder == stopped.folder
    assert probes(ended)[: len(before)] == before and len(probes(ended)) > len(before)
    assert ended.read("results.json")["status"] == "complete"


def test_offline_and_the_engine_grid(tmp_path: Path) -> None:
    ended = tune(tmp_path, QUEUE, SCENARIO="Offline", SEARCH="engine,qps")
    assert ended.code == 0, ended.stderr
    kept = ended.read("tuning.json")
    assert kept["scenarios"]["Offline"]["answer"] <= 155
    assert kept["engine"]["best"] in [
        {k: p[k] for k in ("seats", "tokens")} for p in kept["engine"]["points"]
    ]
    entry = tomllib.loads((tmp_path / "tuned" / "fake.toml").read_text())["entry"][0]
    assert entry["Offline"]["max_num_seqs"] == kept["engine"]["best"]["seats"]
    assert entry["Offline"]["target_qps"] == pytest.approx(1.1 * kept["scenarios"]["Offline"]["answer"], 1e-3)
    assert entry["engine"]["max_num_seqs"] >= entry["Offline"]["max_num_seqs"]


def test_one_member_is_searched_and_all_confirm(tmp_path: Path) -> None:
    ended = tune(tmp_path, QUEUE, GPUS=2, DURATION_S=3, PROBE_S=2, TARGET_QPS=250, SEARCH="engine,qps")
    assert ended.code == 0, ended.stderr
    tried = probes(ended)
    first_full = next(n for n, probe in enumerate(tried) if probe["kind"] == "confirm")
    assert all(probe["member_qps"] == pytest.approx(probe["qps"] / 2) for probe in tried[:first_full])
    assert all("member_qps" not in probe for probe in tried[first_full:])
    assert ended.folder
    assert "of them on one member alone: TTFT" in (ended.folder / "events.jsonl").read_text()
    assert "had one member alone, at its share of the load" in (ended.folder / "report.md").read_text()
    engine = ended.read("tuning.json")["engine"]
    assert engine["members"] == 2
    # Short runs: the last answer's time counts.
    best = max(point["samples_per_s"] for point in engine["points"])
    assert best <= 155 and 1.6 * best < engine["whole_samples_per_s"] <= 310
    entry = tomllib.loads((tmp_path / "tuned" / "fake.toml").read_text())["entry"][0]
    assert entry["identity"]["replicas"] == 2
    assert entry["Server"]["target_qps"] == ended.read("tuning.json")["scenarios"]["Server"]["answer"] > 160
