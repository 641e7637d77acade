"""What `plan` and `doctor` foretell: on what, how long, how much, and whether it counts."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mlperf_llama import config
from mlperf_llama.bench import foretell, planner
from mlperf_llama.cli import parser, table
from mlperf_llama.doctor import foretold
from mlperf_llama.errors import UsageError
from mlperf_llama.machine import gpu_table
from mlperf_llama.records.schema import Gpu, System
from mlperf_llama.report import fleet

A30 = Gpu(name="NVIDIA A30", memory_gib=23.6, compute_capability="8.0", index=0, uuid="a", source="nvml")
TOKEN = {"HF_TOKEN": "hf_" + "a" * 34}


def told(env: Mapping[str, str], *gpus: Gpu, **flags: str) -> dict[str, foretell.Line]:
    settings = config.load(flags, {})
    lines = foretell.lines(settings, gpus, {"HF_HOME": "/nonexistent", **env})
    return {line.name: line for line in lines}


def test_an_a30_with_a_token_and_all_runs_is_submittable() -> None:
    lines = told(TOKEN, A30, SCENARIO="Offline,Server", MODE="all")
    assert lines["runs on"].text == "1 x NVIDIA A30 by vLLM, preset a30, int8"
    assert lines["speed"].text.startswith(
        "Offline 5.5 to 7.5 samples/s expected, of a limit of 13.2: 0.41 to"
    )
    assert lines["weights"].text == "Llama-3.1-8B-Instruct from Hugging Face, 16.1 GB to fetch"
    assert "17.1 GB fetched" in lines["disk and download"].text
    assert lines["submittable"].good and lines["submittable"].text.startswith("yes")


def test_servers_bring_their_own_gpus_and_weights() -> None:
    lines = told(TOKEN, A30, ENGINE="http://a:8000,http://b:8000", MODEL="/models/Llama", SCENARIO="Server")
    assert lines["runs on"].text.startswith(
        "2 servers that run already, http://a:8000, http://b:8000; no GPU"
    )
    assert "speed" not in lines and not lines["submittable"].good
    assert lines["weights"].text == "those of the server; the tokenizer of /models/Llama makes the prompts"


def test_one_scenario_alone_lacks_the_rest() -> None:
    line = told(TOKEN, A30, MODE="performance")["submittable"]
    assert not line.good
    assert line.text == (
        "not by this run alone: it lacks accuracy, compliance, Server or Interactive; "
        "`make submission` runs all"
    )


@pytest.mark.parametrize(
    ("env", "gpus", "flags", "reason"),
    [
        ({}, (A30,), {}, "no: the weights would be the stand-in"),
        (TOKEN, (), {}, "no: the datacenter category needs a GPU; the run covers a part of the samples"),
        (TOKEN, (A30,), {"SAMPLES": "64"}, "no: the run covers a part of the samples"),
        (TOKEN, (A30,), {"MODEL": "random"}, "no: the weights would be random"),
        (TOKEN, (A30,), {"IGNORE_EOS": "1"}, "no: IGNORE_EOS is for speed alone"),
        (TOKEN, (A30,), {"ENGINE": "fake"}, "no: the weights would be none"),
    ],
)
def test_why_a_run_will_not_count(
    env: dict[str, str], gpus: tuple[Gpu, ...], flags: dict[str, str], reason: str
) -> None:
    line = told(env, *gpus, **flags)["submittable"]
    assert not line.good and line.text == reason


def test_weights_in_the_hubs_cache_need_no_token(tmp_path: Path) -> None:
    shards = tmp_path / "hub/models--meta-llama--Llama-3.1-8B-Instruct/snapshots/0e9e"
    shards.mkdir(parents=True)
    (shards / "model-00001-of-00004.safetensors").touch()
    line = told({"HF_HOME": str(tmp_path)}, A30)["weights"]
    assert line.good and "in the hub's cache" in line.text


def test_several_gpus_are_copies_of_the_model() -> None:
    gpus = [replace(A30, index=n, uuid=str(n)) for n in range(8)]
    lines = told(TOKEN, *gpus)
    assert lines["runs on"].text.endswith("8 copies of the model")
    assert "5.5 to 7.5 samples/s for each GPU" in lines["speed"].text


def test_no_plan_has_a_question_mark() -> None:
    unknown = Gpu(
        name="Some GPU", memory_gib=40.0, compute_capability="9.9", index=0, uuid="a", source="nvml"
    )
    for gpus in ((), (A30,), (unknown,)):
        for flags in (
            {"SCENARIO": "all", "MODE": "all"},
            {"CATEGORY": "edge", "SCENARIO": "all", "MODE": "all"},
        ):
            settings = config.load(flags, {})
            text = planner.table(settings, gpus) + foretell.render(foretell.lines(settings, gpus, {}))
            assert "?" not in text
    assert "is not in the table of GPUs" in told({}, unknown)["speed"].text


def test_the_time_of_an_untuned_offline_run_follows_from_the_expected_speed() -> None:
    """13,368 samples at the middle of 5.5 to 7.5, and not at the higher rate that LoadGen is asked for."""
    settings = config.load({"MODE": "performance"}, {})
    assert planner.total_seconds(settings, [A30]) == pytest.approx(13368 / 6.5, rel=0.01)
    assert "27." not in planner.table(settings, [A30]) and " 34." in planner.table(settings, [A30])


def test_single_stream_has_an_estimate_on_a_known_card() -> None:
    settings = config.load({"CATEGORY": "edge", "SCENARIO": "SingleStream", "MODE": "performance"}, {})
    choice = planner.choose(settings, "SingleStream", A30)
    assert choice.value and 2000 < choice.value < 2700 and "estimate" in choice.source


def test_the_doctor_says_the_same() -> None:
    findings = foretold.findings(config.load({}, {}), {"HF_HOME": "/nonexistent"}, System(gpus=(A30,)))
    names = {finding.name: finding for finding in findings}
    assert names["submittable"].level == names["weights"].level == "warn"
    assert names["runs on"].level == "ok" and "A30" in names["runs on"].detail


def test_the_doctor_without_packages_says_that_it_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> ModuleType:
        if name.endswith("bench"):
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    (finding,) = foretold.findings(config.load({}, {}), {}, System())
    assert "once the environment is there" in finding.detail


def test_how_many_gpus_a_load_takes() -> None:
    text = fleet.text(500, config.load({"SCENARIO": "Server"}, {}))
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert text.startswith("500 queries/s in Server:")
    # 64.5 of 65.8: the one H100 of benchmarks/RESULTS.md; 500 / 64.5 = 7.75.
    assert rows["H100 SXM"].split()[2:5] == ["64", "8", "5.6"] and "39.6" in rows["H100 SXM"]
    # 12.83 x 9.36 / 12.83 to 12.83 x 39.56 / 45.13, at the preset's precision.
    assert "RedHat, v5.1, vLLM 0.10.0" in rows["L40S"]
    assert "does not run there" in rows["MI355X"] and "147.2" in rows["MI355X"]
    assert len(rows) > 28


def test_the_counts_are_of_the_low_and_the_high_end() -> None:
    a30 = next(f for f in fleet.fleets("Offline") if f.card.name == "A30")
    assert a30.speed and a30.speed.figures == "5.5 to 7.5"
    assert a30.count(100) == (14, 19) and a30.published_count(100) == 30


@pytest.mark.parametrize("scenario", ["Offline", "Server", "Interactive"])
def test_every_card_of_nvidias_has_a_count_in_every_scenario(scenario: str) -> None:
    for listed in fleet.fleets(scenario):
        assert (listed.count(100) is not None) == (listed.card.maker == gpu_table.NVIDIA), listed.card.name


@pytest.mark.parametrize(
    ("need", "scenario", "message"),
    [
        (0, "Server", "--need: expected queries per second above 0, found 0"),
        (float("nan"), "Server", "--need"),
        (5, "all", "SCENARIO: expected one of Offline, Server, Interactive with --need"),
    ],
)
def test_a_need_that_makes_no_sense(need: float, scenario: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fleet.text(need, config.load({"SCENARIO": scenario}, {}))


def test_the_plan_takes_a_need() -> None:
    assert table.BY_NAME["plan"].arguments
    assert parser.build().parse_args(["plan", "--need", "500", "--scenario", "Server"]).need == 500


def test_without_a_gpu_the_table_says_that_it_is_a_gpus(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlperf_llama.machine.gpus.describe", lambda env: System(gpus=()))
    arguments = parser.build().parse_args(["plan"])
    for flags, first in (({}, "Full-length runs, as a machine with a GPU"), ({"SAMPLES": "64"}, "scenario")):
        assert table.BY_NAME["plan"].function(arguments, flags, {}) == 0
        assert capsys.readouterr().out.startswith(first)
