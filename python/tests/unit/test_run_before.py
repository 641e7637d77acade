"""A run folder of the version before, made by the fake engine: every verb reads it as that version did.

data/run-before.tar.xz holds the folder, neutral in its paths, and in cache/ what scoring needs: the
model folder and the first 24 rows of the dataset.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import report_samples as samples
import run_folders as folders
import score_support as support
from run_folder_schemas import problems

from mlperf_llama import rules
from mlperf_llama.records import seal
from mlperf_llama.records.files import digest
from mlperf_llama.records.run_folder import RunFolder

pytestmark = pytest.mark.slow
ARCHIVE = Path(__file__).parents[1] / "data/run-before.tar.xz"
PACKAGE = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = (tmp_path / "run-before").glob("*-offline-server")
    return RunFolder(folder)


def verb(*arguments: object, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`mlperf-llama ARGUMENTS`, with no setting but the defaults."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLPERF_")}
    places = {"HOME": str(home)} if home else {}
    return subprocess.run(
        [sys.executable, "-m", "mlperf_llama", *map(str, arguments)],
        env={**clean, **places, "PYTHONPATH": str(PACKAGE), "MLPERF_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
    )


def read(run: RunFolder, name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(run.file(name).read_text(encoding="utf-8"))
    return data


def outcomes(run: RunFolder) -> dict[str, bool]:
    return {check["name"]: check["passed"] for check in read(run, "verdict.json")["checks"]}


def test_its_records_and_its_seal_hold(run: RunFolder) -> None:
    assert problems(run.path) == []
    assert seal.differences(run) == []


def test_report(run: RunFolder) -> None:
    ended = verb("report", "--run-dir", run.path)
    assert (ended.returncode, ended.stdout.strip()) == (0, str(run.file("report.md")))
    text = run.file("report.md").read_text(encoding="utf-8")
    assert "Missing records" not in text
    assert "| Offline | VALID | 56 087.80 | 7 179 230 | — | — | — | 69312 | 1.2 s |" in text
    assert (
        "| Server | VALID | 18 130.70 | 2 320 850 | 2.9 of 2000 | 0.0007 of 100 | — | 18144 | 1.0 s |" in text
    )
    for scenario in (rules.OFFLINE, rules.SERVER):
        scores = text.split(f"**Accuracy, {scenario}**")[1].split("word overlap")[0]
        assert "| rouge1 | 60.7741 | 38.3914 | — |" in scores
        assert r"| gen\_len (characters) | 13 298 | 7 350 880 to 8 984 408 | — |" in scores
    assert "24 of 13368 samples, 1 of 600 seconds" in text
    failed = sum(not passed for passed in outcomes(run).values())
    assert f"All {len(outcomes(run))} checks" in text and f"Failed checks: {failed}" in text
    assert "p50 0.5, p90 0.9, p95 1.2, p97 1.6, p99 2.9, p99.9 5.2" in text
    assert "| huggingface | failed | 0.1 s | huggingface: no connection: Name or service not known |" in text


def test_compare(run: RunFolder) -> None:
    ended = verb("compare", run.path, run.path)
    assert ended.returncode == 0 and "Offline: A and B are equally fast" in ended.stdout
    assert "hashes.json does not begin where the folder was made" in ended.stdout
    for scenario, results in read(run, "results.json")["scenarios"].items():
        table = ended.stdout.split(f"**{scenario}**")[1].split("**")[0]
        rate = f"{results['performance']['samples_per_second']:,.2f}".replace(",", " ")
        assert f"| samples/s | {rate} | {rate} | 1.000 |" in table
        assert "| rouge2 | 48.3035 | 48.3035 | 1.000 |" in table
    assert "none" in ended.stdout.split("What differs")[1]


def test_verdict(run: RunFolder) -> None:
    before = outcomes(run)
    assert verb("verdict", "--run-dir", run.path).returncode == 0
    after = outcomes(run)
    # A later version may ask more, and answers the same where it asks the same; but for the seal, which
    # begins where the folder is made since then.
    assert {name: after.get(name) for name in before} == {**before, "seal": False}
    assert not after["engine"]
    assert read(run, "verdict.json")["submittable"] is False


def test_score_says_in_one_line_what_is_missing(run: RunFolder) -> None:
    ended = verb("score", "--run-dir", run.path)
    path = read(run, "provenance.json")["dataset"]["path"]
    assert ended.returncode != 0 and ended.stdout == ""
    assert ended.stderr.splitlines() == [f"error: {path}: expected a dataset file, found none"]


def test_score(run: RunFolder, tmp_path: Path) -> None:
    home, cache = tmp_path / "home", run.path.parent / "cache"
    (home / ".cache/mlperf-llama").mkdir(parents=True)
    (home / ".cache/mlperf-llama/nltk_data").symlink_to(support.sentence_model())
    before = read(run, "results.json")
    with samples.edited(run, "provenance.json") as provenance:
        rows = cache / "first_24.jsonl"
        provenance["dataset"].update(path=str(rows), sha256=digest(rows))
        provenance["model"]["path"] = str(cache / "model")
    folders.reseal(run)
    with samples.edited(run, "results.json") as results:
        for scenario in results["scenarios"].values():
            scenario["accuracy"] = None
    folders.reseal(run)
    ended = verb("score", "--run-dir", run.path, home=home)
    assert ended.returncode == 0, ended.stderr
    after = read(run, "results.json")
    for scenario in after["scenarios"].values():
        # A key that was added since.
        assert set(scenario["accuracy"].pop("standard_errors")) == {*rules.ROUGE_KEYS}
    assert after == before


def test_resume(run: RunFolder) -> None:
    refused = verb("create-run", "--resume", run.path)
    assert refused.returncode == 2 and "found a complete one" in refused.stderr
    before = read(run, "provenance.json")
    with samples.edited(run, "results.json") as results:
        results["status"] = "interrupted"
    folders.reseal(run)
    accepted = verb("create-run", "--resume", run.path)
    assert accepted.returncode == 0, accepted.stderr
    assert accepted.stdout.splitlines()[0] == f"run_dir={run.path}"
    assert read(run, "results.json") == {**results, "status": "running", "finished": None}
    provenance = read(run, "provenance.json")
    assert provenance["stood_on"] == {kind: before[kind]["sha256"] for kind in ("dataset", "model")}
    assert {kind: provenance[kind] for kind in ("dataset", "model")} == {
        kind: before[kind] for kind in ("dataset", "model")
    }
    assert seal.differences(run) == [] and problems(run.path) == []


def test_submission_refuses_it_for_its_engine(run: RunFolder) -> None:
    ended = verb("pack", run.path, "--submitter", "somebody", "--results-dir", run.path.parent)
    assert ended.returncode == 5
    assert "expected a run of a real engine, found the fake one" in ended.stderr
