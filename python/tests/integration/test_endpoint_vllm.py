"""vLLM's own server, as `serve` starts it, gives the ids that the engine in process gives."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pipeline_runs import ARTICLES, Ended, entrypoint, start

for _name in ("vllm", "torch", "rouge_score", "nltk"):
    pytest.importorskip(_name)
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not ARTICLES.is_file(), reason=f"the real articles are not at {ARTICLES}"),
]
SETTINGS = {"MODEL": "stand-in", "DATASET_SOURCE": ARTICLES, "SAMPLES": 2, "MODE": "accuracy"}
READY_S = 300


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    where = f"127.0.0.1:{free_port()}"
    results = tmp_path_factory.mktemp("serve")
    server = start(results, ("serve",), {"MODEL": "stand-in", "DTYPE": "float32", "SERVE_ADDRESS": where})
    try:
        deadline = time.monotonic() + READY_S
        while True:
            assert server.poll() is None, server.communicate()[1][-2000:]
            assert time.monotonic() < deadline
            try:
                urllib.request.urlopen(f"http://{where}/health", timeout=2)
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        yield f"http://{where}"
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.communicate(timeout=30)
        finally:
            server.kill()


@pytest.fixture(scope="module")
def over_http(address: str, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    # Server streams; as few prompts as the probe and the warm-up leave time for.
    streamed = {"SCENARIO": "Server", "TARGET_QPS": 1}
    ended = entrypoint(tmp_path_factory.mktemp("http"), "run", ENGINE=address, **SETTINGS, **streamed)
    assert ended.code == 0, ended.stderr
    return ended


def answers(ended: Ended, scenario: str) -> dict[int, list[int]]:
    assert ended.folder is not None
    log = json.loads((ended.folder / scenario / "accuracy/mlperf_log_accuracy.json").read_text())
    return {e["qsl_idx"]: np.frombuffer(bytes.fromhex(e["data"]), np.int32).tolist() for e in log}


def test_the_probe_proves_all_but_the_weights(over_http: Ended) -> None:
    (probed,) = over_http.read("provenance.json")["endpoints"]
    assert probed["software"] == "vLLM"
    assert (probed["ids_in"], probed["ids_out"], probed["greedy"], probed["streams"]) == (True,) * 4
    assert (probed["prefix_cache"], probed["most_tokens"]) == (False, 128)
    failed = {c["name"] for c in over_http.read("verdict.json")["checks"] if not c["passed"]}
    assert {name for name in failed if name.startswith("endpoint_")} == {"endpoint_weights"}


def test_the_same_ids_and_scores_as_in_process(over_http: Ended, tmp_path: Path) -> None:
    here = entrypoint(tmp_path, "run", DTYPE="float32", **SETTINGS)
    assert here.code == 0, here.stderr
    expected = answers(here, "Offline")
    assert len(expected) == SETTINGS["SAMPLES"]
    assert answers(over_http, "Server") == expected
    scores = here.read("results.json")["scenarios"]["Offline"]["accuracy"]
    for scenario in over_http.read("results.json")["scenarios"].values():
        assert {k: scenario["accuracy"][k] for k in ("rouge1", "rougeLsum", "gen_len")} == {
            k: scores[k] for k in ("rouge1", "rougeLsum", "gen_len")
        }
