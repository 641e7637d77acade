"""A run's exit code, and what a resumed run must find again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlperf_llama import config, rules
from mlperf_llama.bench.create import create_run
from mlperf_llama.bench.execute import Work, execute, exit_code
from mlperf_llama.bench.inputs import check_resume_inputs
from mlperf_llama.bench.session import Session
from mlperf_llama.errors import EXIT_INVALID, EXIT_OK, UsageError
from mlperf_llama.records.events import Events
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import (
    COMPLETE,
    Accuracy,
    Performance,
    Provenance,
    Provided,
    Results,
    ScalesUsed,
    Scenario,
    System,
)

ELIGIBLE = Provided(source="path", path="/data", sha256="a" * 64, eligible=True)
OTHER = Provided(source="synthetic", path="/data", sha256="b" * 64, eligible=False, reason="made up")
VALID = Performance(1.0, 100.0, 600.0, 13368, "VALID")
INVALID = replace(VALID, loadgen_result="INVALID")
FEW = replace(INVALID, not_judged="too few queries for a p99: not judged (16 of 459)")
MISSED, MET, NOT_JUDGED = (Accuracy(rouge1=1.0, passed=passed) for passed in (False, True, None))


@pytest.mark.parametrize(
    ("dataset", "model", "scenario", "code"),
    [
        (ELIGIBLE, ELIGIBLE, Scenario(performance=VALID, accuracy=MET), EXIT_OK),
        (ELIGIBLE, ELIGIBLE, Scenario(performance=VALID, accuracy=MISSED), EXIT_INVALID),
        (ELIGIBLE, ELIGIBLE, Scenario(accuracy=MISSED), EXIT_INVALID),
        (ELIGIBLE, ELIGIBLE, Scenario(performance=VALID, accuracy=NOT_JUDGED), EXIT_OK),
        (OTHER, ELIGIBLE, Scenario(performance=VALID, accuracy=MISSED), EXIT_OK),
        (ELIGIBLE, OTHER, Scenario(performance=VALID, accuracy=MISSED), EXIT_OK),
        (ELIGIBLE, ELIGIBLE, Scenario(performance=INVALID, accuracy=MET), EXIT_INVALID),
        (OTHER, OTHER, Scenario(performance=INVALID), EXIT_INVALID),
        (OTHER, OTHER, Scenario(performance=FEW), EXIT_OK),
    ],
)
def test_exit_code(dataset: Provided, model: Provided, scenario: Scenario, code: int, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write(config.load({}, {}))
    run.write(Provenance(dataset=dataset, model=model))
    good = Scenario(performance=VALID, accuracy=MET)
    run.write(Results(scenarios={rules.OFFLINE: good, rules.SERVER: scenario}))
    assert exit_code(run) == code


@pytest.mark.parametrize(
    ("mode", "articles", "code"),
    [("static", ELIGIBLE, EXIT_INVALID), ("static", OTHER, EXIT_OK), ("dynamic", OTHER, EXIT_INVALID)],
)
def test_own_calibration_articles_miss_no_target(
    mode: str, articles: Provided, code: int, tmp_path: Path
) -> None:
    run = RunFolder(tmp_path)
    run.write(config.load({}, {}))
    scales = ScalesUsed(mode)
    run.write(Provenance(dataset=ELIGIBLE, model=ELIGIBLE, calibration=articles, scales=scales))
    run.write(Results(scenarios={rules.OFFLINE: Scenario(performance=VALID, accuracy=MISSED)}))
    assert exit_code(run) == code


def test_a_run_that_ignores_the_end_of_sequence_misses_no_target(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write(config.load({"IGNORE_EOS": "1"}, {}))
    run.write(Provenance(dataset=ELIGIBLE, model=ELIGIBLE))
    run.write(Results(scenarios={rules.OFFLINE: Scenario(performance=VALID, accuracy=MISSED)}))
    assert exit_code(run) == EXIT_OK


@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_a_resumed_run_refuses_another_dataset_or_model(kind: str, run: RunFolder) -> None:
    """Before anything is tokenised or loaded."""
    used = {"dataset": "0" * 64, "model": "0" * 64, kind: "c" * 64}
    run.update(Provenance, stood_on=used)
    with pytest.raises(UsageError, match=rf"{kind}: expected sha256 c{{64}}, .* found 0{{64}} from"):
        Session(run, run.config(), Events(None))


@pytest.mark.parametrize("sha256", ["a" * 64, None])
def test_a_resumed_run_takes_the_same_dataset_and_model(sha256: str | None) -> None:
    used = {"dataset": sha256, "model": sha256}
    check_resume_inputs(Provenance(dataset=ELIGIBLE, model=ELIGIBLE, stood_on=used))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"PRESET": "h1000"}, "PRESET: expected one of"),
        ({"ENGINE": "fake", "FAKE": '{"ttft": 1}'}, "FAKE: expected keys among"),
    ],
)
def test_what_the_engine_would_refuse_is_refused_before_a_folder_is_made(
    flags: dict[str, str], message: str, tmp_path: Path
) -> None:
    settings = config.load({**flags, "RESULTS_DIR": str(tmp_path / "results")}, {})
    with pytest.raises(UsageError, match=message):
        create_run(settings, {})
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(("loadgen_result", "code"), [("VALID", EXIT_OK), ("INVALID", EXIT_INVALID)])
def test_execute_ends_with_the_code_of_its_results(loadgen_result: str, code: int, tmp_path: Path) -> None:
    """A run with nothing left to measure: judged, reported, ended."""
    run = RunFolder(tmp_path)
    run.write(config.load({"MODE": "performance", "ENGINE": "fake"}, {}))
    run.write(System())
    run.write(Provenance(dataset=OTHER, model=OTHER))
    performance = replace(VALID, loadgen_result=loadgen_result)
    run.write(Results(scenarios={rules.OFFLINE: Scenario(performance=performance)}))

    async def measure(_: Session) -> None:
        raise AssertionError("nothing is missing")

    reported: list[RunFolder] = []
    work = Work(measure, lambda _run, _colour: "summary")
    assert execute(run, run.config(), {}, work, reported.append) == code
    assert (reported, run.read(Results).status) == ([run], COMPLETE)
