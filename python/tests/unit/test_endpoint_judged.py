"""What a probe proved decides what the verdict, the report and packing call a run; settings of servers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import run_folders as folders

from mlperf_llama import config, report, rules, verdict
from mlperf_llama.engine import tuned
from mlperf_llama.engine.replicas import plan
from mlperf_llama.errors import InvalidError, UsageError
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Gpu, ProbedServer
from mlperf_llama.sources import model
from mlperf_llama.submission import selection
from mlperf_llama.verdict import endpoint

PROVED = ProbedServer(
    address="http://gpu1:8000",
    software="vLLM",
    dialect="vLLM /v1/completions with token ids",
    ids_in=True,
    ids_out=True,
    limit_tokens=128,
    most_tokens=128,
    greedy=True,
    prefix_cache=False,
    streams=True,
)
WEIGHTS = "endpoint_weights"


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({"ids_out": False, "dialect": "text alone"}, "endpoint_ids", "no token ids come out (text alone)"),
        ({"ids_in": None}, "endpoint_ids", "does not show which token ids went in"),
        ({"ids_in": False}, "endpoint_ids", "was given other token ids than were sent"),
        ({"most_tokens": 129}, "endpoint_limit", "answers of 129 tokens where 128 are allowed"),
        ({"greedy": False}, "endpoint_greedy", "answers two equal prompts differently: not greedy"),
        ({"greedy": None}, "endpoint_greedy", "does not show that it decodes greedily"),
        ({"prefix_cache": True, "prefix_cache_shown_by": "it is on"}, "endpoint_prefix_cache", "it is on"),
        ({"prefix_cache": None, "prefix_cache_shown_by": "hidden"}, "endpoint_prefix_cache", "hidden"),
        ({"streams": False}, "endpoint_streaming", "sends its first token together with all others"),
        ({}, WEIGHTS, "the hash of the weights that it loaded cannot be shown over HTTP"),
    ],
)
def test_each_fault_is_named_and_the_first_is_the_reason(
    change: dict[str, Any], name: str, words: str
) -> None:
    server = dataclasses.replace(PROVED, **change)
    faults = {key: fault for key, fault in endpoint.faults(server).items() if fault}
    assert set(faults) == {name, WEIGHTS}
    assert words in faults[name]
    assert words in endpoint.reason((server,))


def run_of(path: Path, *servers: ProbedServer) -> RunFolder:
    """A good run, but that servers were the engine."""
    run = folders.good_run(path)
    folders.edit_json(run.file("config.json"), lambda d: d.update(engine="http://gpu1:8000"))
    probed = [dataclasses.asdict(server) for server in servers]
    folders.edit_json(run.file("provenance.json"), lambda d: d.update(endpoints=probed))
    folders.edit_json(run.file("results.json"), lambda d: d["engine"].update(name="endpoint"))
    folders.reseal(run)
    return run


def failed(run: RunFolder) -> dict[str, str]:
    return {c.name: c.detail for c in verdict.examine(run) if c.passed is not True}


def test_whatever_is_proved_it_is_the_speed_of_an_endpoint(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", PROVED)
    wrong = failed(run)
    assert {"engine", WEIGHTS} <= wrong.keys()
    assert not {"endpoint_ids", "endpoint_limit", "endpoint_greedy", "endpoint_prefix_cache"} & wrong.keys()
    assert wrong[WEIGHTS].startswith("speed of an endpoint, not an MLPerf result: http://gpu1:8000: the hash")
    verdict.judge(run)
    report.write(run)
    assert "Speed of an endpoint, not an MLPerf result" in run.file("report.md").read_text()


def test_a_run_whose_probe_is_not_recorded_proves_nothing(tmp_path: Path) -> None:
    wrong = failed(run_of(tmp_path / "run"))
    assert all("no server was probed" in wrong[name] for name in endpoint.FIXES)


def test_an_engine_that_is_no_server_has_no_such_checks(tmp_path: Path) -> None:
    names = {c.name for c in verdict.examine(folders.good_run(tmp_path / "run"))}
    assert not names & endpoint.FIXES.keys()


@pytest.mark.parametrize(
    ("counter", "name"),
    [
        ("over_limit", "endpoint_limit"),
        ("cached_tokens", "endpoint_prefix_cache"),
        ("miscounted", "endpoint_ids"),
        ("not_echoed", "endpoint_ids"),
    ],
)
def test_what_the_answers_of_the_runs_say_counts_too(tmp_path: Path, counter: str, name: str) -> None:
    run = run_of(tmp_path / "run", PROVED)

    def change(results: dict[str, Any]) -> None:
        results["scenarios"][rules.OFFLINE]["performance"].setdefault("counters", {})[counter] = 3.0

    folders.edit_json(run.file("results.json"), change)
    folders.reseal(run)
    assert "3 " in failed(run)[name]


@pytest.mark.parametrize("division", ["open", "closed"])
def test_no_division_packs_it(tmp_path: Path, division: str) -> None:
    run = run_of(tmp_path / "run", PROVED)
    with pytest.raises(InvalidError, match="speed of an endpoint, not an MLPerf result"):
        selection.select([run.path], division, "someone", "v6.1", rules.DATACENTER)


SERVERS = "http://gpu1:8000,https://gpu2.example/llama"


def load(**values: str) -> config.Config:
    return config.load(values, {})


def test_servers_are_a_list_of_addresses() -> None:
    settings = load(ENGINE="http://gpu1:8000/v1/, https://gpu2.example/llama")
    assert settings.engine == SERVERS
    assert settings.endpoints == ("http://gpu1:8000", "https://gpu2.example/llama")
    assert load(ENGINE="fake").endpoints == load().endpoints == ()


@pytest.mark.parametrize(
    "value", ["http://", "http://a:1,", "http://a:1,http://a:1", "ftp://a", "http://a b"]
)
def test_what_is_no_address_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="engine: expected addresses of servers"):
        load(ENGINE=value)


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    for value in ("http://me:sesame@gpu1:8000", "http://gpu1:8000,http://me:sesame@gpu2:8000"):
        with pytest.raises(UsageError, match="ENDPOINT_API_KEY") as caught:
            load(ENGINE=value)
        assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "name, value", [("GPUS", "2"), ("DTYPE", "float16"), ("HOSTS", "a,b"), ("ENGINE_ARGS", '{"seed": 1}')]
)
def test_settings_of_an_engine_of_this_host_are_refused(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: expected no setting of an engine of this host"):
        load(ENGINE=SERVERS, **{name: value})


def test_a_server_s_settings_are_not_searched() -> None:
    with pytest.raises(UsageError, match="SEARCH: expected qps alone"):
        load(ENGINE=SERVERS, SEARCH="qps,engine")


def test_no_gpu_of_this_host_is_used_and_only_the_tokenizer_is_fetched() -> None:
    settings = load(ENGINE=SERVERS)
    assert plan.chosen_gpus(settings, [Gpu(index=0, name="NVIDIA H100")]) == ()
    assert model.chain(settings) == ("huggingface",)
    assert tuned.identity(settings, "abc", {})["engine"] == SERVERS
