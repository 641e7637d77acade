"""An edited verdict.json and a seal that was taken away: neither is believed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import run_folders as folders

from mlperf_llama import verdict
from mlperf_llama.records import seal
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Seal, SealedStage, Verdict

pytestmark = pytest.mark.slow
PACKAGE = Path(__file__).parents[2]


def report(run: RunFolder) -> subprocess.CompletedProcess[str]:
    """`mlperf-llama report`, as it is shipped."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLPERF_")}
    return subprocess.run(
        [sys.executable, "-m", "mlperf_llama", "report", "--run-dir", str(run.path)],
        env={**clean, "PYTHONPATH": str(PACKAGE), "MLPERF_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
    )


def failed(run: RunFolder) -> list[str]:
    return [c.name for c in verdict.examine(run) if not c.passed]


# --- the report


def test_the_report_of_a_good_run_says_nothing_more(run: RunFolder) -> None:
    verdict.judge(run)
    ended = report(run)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Every check passed." in run.file("report.md").read_text()


def test_an_edited_verdict_is_not_believed(run: RunFolder) -> None:
    folders.edit_detail(run.log_dir("Offline", "performance"), result_validity="INVALID")
    folders.reseal(run)
    assert not verdict.judge(run).submittable

    def edit(data: folders.Json) -> None:
        data["submittable"] = True
        for check in data["checks"]:
            check["passed"] = True

    folders.edit_json(run.file(Verdict.FILE), edit)
    ended = report(run)
    assert ended.returncode == 0
    assert "verdict.json said submittable, with other results of" in ended.stderr
    text = run.file("report.md").read_text()
    assert "Not submittable" in text and "Every check passed." not in text
    assert "it was judged again" in text
    assert not run.read(Verdict).submittable


@pytest.mark.parametrize("content", ["", "[]", '{"submittable": true, "checks": 7}'])
def test_a_broken_verdict_is_judged_again(run: RunFolder, content: str) -> None:
    run.file(Verdict.FILE).write_text(content)
    assert report(run).returncode == 0
    assert run.read(Verdict).submittable


# --- the seal


def crash(run: RunFolder, name: str) -> None:
    """A stage that ends in an error, which seals the folder all the same."""
    with pytest.raises(RuntimeError), seal.stage(run, name):
        raise RuntimeError("crashed")


@pytest.mark.parametrize("name", ["score", "score again", "close", "resume", "run"])
def test_a_seal_that_was_taken_away_is_not_made_anew(run: RunFolder, name: str) -> None:
    folders.edit_detail(run.log_dir("Offline", "performance"), completed_samples_per_second=9e9)
    run.file(Seal.FILE).unlink()
    crash(run, name)
    assert "seal" in failed(run)
    assert f"before {name}: LoadGen's logs were there and hashes.json was not" in run.read(Seal).broken


@pytest.mark.parametrize("stages", [(), ("score",), ("model path", "dataset path", "close")])
def test_a_seal_that_no_measuring_stage_made(run: RunFolder, stages: tuple[str, ...]) -> None:
    source = seal.source_sha256()
    chain = tuple(SealedStage(name, "2026-01-01T00:00:00+00:00", source) for name in stages)
    run.write(Seal(chain, (), seal.hashes(run)))
    (check,) = [c for c in verdict.examine(run) if c.name == "seal"]
    assert not check.passed
    assert "names no stage that measured" in check.detail


@pytest.mark.parametrize("first", ["model path", seal.CREATED])
def test_a_seal_begins_where_the_folder_is_made(first: str, tmp_path: Path) -> None:
    """Records that lay there before are nobody's."""
    run = RunFolder.create(tmp_path / "results", "x")
    for name in (first, "dataset path", "run"):
        with seal.stage(run, name):
            if name == "run":
                run.log_dir("Offline", "performance").mkdir(parents=True)
                (run.log_dir("Offline", "performance") / "mlperf_log_detail.txt").write_text("")
    assert seal.faults(run) == ([] if first == seal.CREATED else [seal.NO_BEGIN])
