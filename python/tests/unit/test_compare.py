"""Two results side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import report_samples as samples
import run_folders as folders

from mlperf_llama.errors import UsageError
from mlperf_llama.report import compare


def tree(root: Path, system: str, qps: float) -> Path:
    """A submission's benchmark folder with one Server result."""
    place = root / "closed" / "somebody" / "results" / system / "llama3.1-8b"
    figures = {
        **samples.LOGGED,
        "result_completed_samples_per_sec": qps,
        "result_completed_tokens_per_second": qps * 128,
        "result_query_count": 13368,
        "generated_samples_per_query": 1,
        "power_begin": "11-23-2026 12:00:00.000",
        "power_end": "11-23-2026 12:11:00.500",
    }
    samples.detail_log(place / "Server" / "performance" / "run_1", figures)
    accuracy = place / "Server" / "accuracy"
    accuracy.mkdir()
    (accuracy / "accuracy.txt").write_text(
        "{'rouge1': '38.7', 'rouge2': 15.9, 'gen_len': 8167644}\nhash=ab\n"
    )
    systems = root / "closed" / "somebody" / "systems"
    systems.mkdir(exist_ok=True)
    (systems / f"{system}.json").write_text(json.dumps({"accelerator_model_name": system, "framework": "x"}))
    return place


def test_equal_runs_are_comparable_with_ratio_one(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    folders.reseal(run)
    shutil.copytree(run.path, tmp_path / "again")
    text = compare.compare(run.path, tmp_path / "again")
    assert "✅ Comparable" in text
    assert "| samples/s | 57.03 | 57.03 | 1.000 |" in text
    assert "none" in text.split("What differs")[1]


def test_what_differs_is_listed_and_the_ratio_is_b_over_a(tmp_path: Path) -> None:
    a, b = samples.h100(tmp_path, "a"), samples.h100(tmp_path, "b")
    with samples.edited(b, "results.json") as results:
        results["scenarios"]["Offline"]["performance"]["samples_per_second"] = 114.06
        results["engine"]["settings"]["max_num_seqs"] = 1024
    for run in (a, b):
        folders.reseal(run)
    text = compare.compare(a.path, b.path)
    assert "✅ Comparable" in text and "| samples/s | 57.03 | 114.06 | 2.000 |" in text
    differs = text.split("What differs")[1]
    assert r"| engine setting max\_num\_seqs | 512 | 1024 |" in differs and "rouge" not in differs


def test_an_edited_folder_is_named(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    folders.reseal(run)
    shutil.copytree(run.path, tmp_path / "again")
    with samples.edited(run, "results.json") as results:
        results["scenarios"]["Offline"]["performance"]["samples_per_second"] = 114.06
    text = compare.compare(run.path, tmp_path / "again")
    assert "✅" not in text and "not as its stages sealed it: results.json changed" in text


def test_a_stand_in_and_a_real_run_are_not_comparable(tmp_path: Path) -> None:
    real = samples.h100(tmp_path)
    with samples.edited(real, "provenance.json") as provenance:
        provenance["model"]["sha256"] = provenance["dataset"]["sha256"] = "cd" * 32
    text = compare.compare(samples.standin(tmp_path).path, real.path)
    top = text.split("## Side by side")[0]
    assert "❌ Not comparable" in top
    for reason in ("different models", "different data", "different numbers of samples", "stand-in"):
        assert reason in top
    assert "Server was run by 20261123T130000Z-offline-server alone." in text


def test_an_invalid_run_compares_with_nothing(tmp_path: Path) -> None:
    a, b = samples.h100(tmp_path, "a"), samples.h100(tmp_path, "b")
    with samples.edited(b, "results.json") as results:
        results["scenarios"]["Server"]["performance"]["loadgen_result"] = "INVALID"
    assert "b: LoadGen says INVALID of Server." in compare.compare(a.path, b.path)


def test_two_submission_trees(tmp_path: Path) -> None:
    text = compare.compare(tree(tmp_path / "1", "H100x1", 40.0), tree(tmp_path / "2", "H200x1", 50.0))
    assert "✅ Comparable" in text
    assert (
        "| samples/s | 40.00 | 50.00 | 1.250 |" in text
        and "| TTFT p99 ms | 1 911.0 | 1 911.0 | 1.000 |" in text
    )
    assert "| rouge1 | 38.7000 | 38.7000 | 1.000 |" in text
    assert r"| system accelerator\_model\_name | H100x1 | H200x1 |" in text


def test_a_tree_of_several_systems_names_each(tmp_path: Path) -> None:
    tree(tmp_path, "H100x1", 40.0)
    tree(tmp_path, "H200x1", 50.0)
    side = compare.read(tmp_path)
    assert set(side.scenarios) == {"H100x1/llama3.1-8b Server", "H200x1/llama3.1-8b Server"}


def test_a_run_and_a_tree(tmp_path: Path) -> None:
    text = compare.compare(samples.h100(tmp_path).path, tree(tmp_path, "H200x1", 50.0))
    assert "| samples/s | 46.61 | 50.00 | 1.073 |" in text
    assert "Offline was run by" in text


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_what_is_no_result_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a run folder or a submission tree"):
        compare.compare(tmp_path / name, tmp_path / name)
