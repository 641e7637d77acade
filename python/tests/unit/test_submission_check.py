"""Checking: both checkers on good trees, and a tree broken in many ways."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import run_folders as folders
from submission_trees import failed, layout_of, packed, remove_all, settings

from mlperf_llama import rules, submission
from mlperf_llama.errors import EXIT_INVALID, EXIT_MISSING, EXIT_OK, MissingError, UsageError
from mlperf_llama.loadgen import logs
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.submission import documents, official
from mlperf_llama.submission.layout import Layout
from mlperf_llama.verdict import test06

Break = Callable[[Layout], None]


def checkout() -> Path:
    named = os.environ.get("MLPERF_INFERENCE_DIR", "")
    if not named or not (Path(named) / official.TOOLS / "submission_checker").is_dir():
        pytest.skip("MLPERF_INFERENCE_DIR names no checkout of mlcommons/inference")
    return Path(named)


@pytest.mark.parametrize("category", rules.SAMPLE_COUNT)
@pytest.mark.parametrize("round_name", rules.ROUNDS)
@pytest.mark.parametrize("division", ["closed", "open"])
def test_official_checker_accepts(division: str, round_name: str, category: str, tmp_path: Path) -> None:
    where = checkout()
    run = folders.good_run(tmp_path / "run", category, round_name)
    root = packed(tmp_path, run, ROUND=round_name, CATEGORY=category, DIVISION=division)
    report = submission.check(root, settings(tmp_path, INFERENCE_DIR=str(where)), dict(os.environ))
    assert report.exit_code == EXIT_OK, report.text()
    assert report.official[round_name].output.count(official.ACCEPTED) == 1


def _checker(path: Path, script: str) -> Path:
    """A checkout whose checker is this script."""
    package = path / official.TOOLS / "submission_checker"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text(script)
    return path


def test_a_crash_of_the_official_checker_is_named_before_its_traceback(
    good_tree: Path, tmp_path: Path
) -> None:
    script = "print('Loading System log from /tree/systems/x.json')\n{}.read()\n"
    used = settings(tmp_path, INFERENCE_DIR=str(_checker(tmp_path / "m", script)))
    report = submission.check(good_tree, used, dict(os.environ))
    (outcome,) = report.official.values()
    assert outcome.complaints[0] == (
        "the checker crashed at main.py line 2 (<module>): AttributeError: 'dict' object has no attribute "
        "'read'; it had last read /tree/systems/x.json"
    )
    assert outcome.complaints[1] == official.TRACEBACK
    # No check of ours names it, so a failed one says that.
    assert [c.name for c in report.failed] == ["mlcommons/v6.1"] and report.exit_code == EXIT_INVALID


def test_the_official_checker_is_asked_by_round_where_no_log_tells_it(
    good_tree: Path, tmp_path: Path
) -> None:
    shutil.copytree(good_tree, tmp_path / "tree")
    for scenario in ("Offline", "Server", "Interactive"):
        _log(scenario, effective_qsl_rng_seed=7)(layout_of(tmp_path / "tree"))
    script = "import sys\nprint('SUMMARY: submission looks OK', sys.argv)\n"
    used = settings(tmp_path, INFERENCE_DIR=str(_checker(tmp_path / "m", script)), ROUND="v6.0")
    report = submission.check(tmp_path / "tree", used, dict(os.environ))
    assert list(report.official) == ["v6.0"] and "--version=v6.0" in report.official["v6.0"].output
    assert any(c.name.endswith("/round") for c in report.failed)


def test_official_refusal_is_reported(good_tree: Path, tmp_path: Path) -> None:
    where = checkout()
    shutil.copytree(good_tree, tmp_path / "tree")
    folders.edit_detail(layout_of(tmp_path / "tree").performance("Offline"), effective_min_duration_ms=60000)
    report = submission.check(
        tmp_path / "tree", settings(tmp_path, INFERENCE_DIR=str(where)), dict(os.environ)
    )
    assert not report.accepted and report.exit_code == EXIT_INVALID
    assert "refuses" in report.text() and "Test duration less than 600s" in report.text()


def _json(path: Callable[[Layout], Path], change: Callable[[dict[str, Any]], Any]) -> Break:
    return lambda layout: folders.edit_json(path(layout), change)


def _log(scenario: str, **values: Any) -> Break:
    return lambda layout: folders.edit_detail(layout.performance(scenario), **values)


def _scores(text: Callable[[str], str]) -> Break:
    def breaking(layout: Layout) -> None:
        path = layout.accuracy("Offline") / "accuracy.txt"
        path.write_text(text(path.read_text()))

    return breaking


def _remove(path: Callable[[Layout], Path]) -> Break:
    def breaking(layout: Layout) -> None:
        target = path(layout)
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return breaking


def _test06(change: Callable[[list[dict[str, Any]]], Any]) -> Break:
    def breaking(layout: Layout) -> None:
        path = layout.test06("Server") / "accuracy" / "mlperf_log_accuracy.json"
        records = json.loads(path.read_text())
        change(records)
        folders.write_responses(path, records)

    return breaking


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def _replace(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text().replace(before, after))


def _add_line(folder: Path, key: str, value: object) -> None:
    entry = {"key": key, "value": value, "metadata": {"is_error": False, "is_warning": False}}
    _append(folder / logs.DETAIL, logs.MARK + json.dumps(entry) + "\n")


def _edit_accuracy(**values: Any) -> Break:
    return lambda layout: folders.edit_detail(layout.accuracy("Offline"), **values)


TTFT, TPOT = (
    "result_first_token_99.00_percentile_latency_ns",
    "result_time_per_output_token_99.00_percentile_ns",
)
BROKEN_TREES: dict[str, tuple[Break, set[str]]] = {
    "INVALID": (_log("Offline", result_validity="INVALID"), {"Offline.valid"}),
    "TTFT over Interactive's limit": (_log("Interactive", **{TTFT: 600_000_000}), {"Interactive.ttft_p99"}),
    "TPOT over Interactive's limit": (_log("Interactive", **{TPOT: 31_000_000}), {"Interactive.tpot_p99"}),
    "TTFT over Server's limit": (_log("Server", **{TTFT: 2_000_000_000}), {"Server.ttft_p99"}),
    "short in settings": (_log("Server", effective_min_duration_ms=599_999), {"Server.min_duration"}),
    "short in fact": (_log("Server", power_end="11-23-2026 10:05:00.000"), {"Server.lasted"}),
    "seed": (_log("Server", effective_sample_index_rng_seed=7), {"Server.performance.seeds"}),
    "another round's LoadGen": (
        _log("Server", loadgen_version="5.1.2"),
        {"Server.performance.loadgen_version"},
    ),
    "another scenario's log": (
        lambda f: shutil.copytree(f.performance("Server"), f.performance("Offline"), dirs_exist_ok=True),
        {"Offline.performance.scenario"},
    ),
    "half a pass": (_log("Offline", generated_samples_per_query=20052), {"Offline.whole_passes"}),
    "subset": (_log("Offline", qsl_reported_total_count=24), {"Offline.performance.samples"}),
    "129 tokens": (_log("Offline", result_tokens_per_second=129.0 * 42.4), {"Offline.mean_tokens"}),
    "a key stated twice": (
        lambda f: _add_line(f.performance("Offline"), "effective_min_duration_ms", 60000),
        {"Offline.performance.lines", "Offline.min_duration"},
    ),
    "a broken line": (
        lambda f: _append(f.performance("Offline") / logs.DETAIL, ":::MLLOG {\n"),
        {"Offline.performance.lines"},
    ),
    "made by MLPerf Endpoints": (
        lambda f: _replace(f.accuracy("Server") / logs.DETAIL, logs.MARK, ":::ENDPTS "),
        {"Server.accuracy.lines"},
    ),
    "a summary of another run": (
        lambda f: _append(f.performance("Server") / logs.SUMMARY, "Result is : INVALID\n"),
        {"Server.summary"},
    ),
    "no summary": (_remove(lambda f: f.performance("Server") / logs.SUMMARY), {"Server.summary"}),
    "half the set in Offline's query": (
        _log("Offline", effective_samples_per_query=6684),
        {"Offline.samples_per_query"},
    ),
    "a target latency of a minute": (
        _log("Server", effective_target_latency_ns=60_000_000_000),
        {"Server.target_latency"},
    ),
    "no result": (
        _log("Server", result_completed_samples_per_sec=0),
        {"Server.figures", "Server.mean_tokens"},
    ),
    "accuracy of a part": (
        _edit_accuracy(effective_accuracy_sample_count=4761),
        {"Offline.accuracy.samples"},
    ),
    "early stopping": (_log("Server", early_stopping_met=False), {"Server.early_stopping"}),
    "no performance": (_remove(lambda f: f.performance("Offline")), {"Offline.performance"}),
    "no accuracy": (
        _remove(lambda f: f.accuracy("Offline") / "mlperf_log_detail.txt"),
        {"Offline.accuracy"},
    ),
    "rouge": (_scores(lambda t: t.replace("24.4957", "24.24")), {"Offline.accuracy.rougeL"}),
    "gen_len": (_scores(lambda t: t.replace("8167644", "9000000")), {"Offline.accuracy.gen_len"}),
    "no hash": (_scores(lambda t: t.split("hash=")[0]), {"Offline.accuracy.hash"}),
    "hash of nothing": (_scores(lambda t: re.sub("hash=.*", "hash=none", t)), {"Offline.accuracy.hash"}),
    "NumPy's repr": (
        _scores(lambda t: t.replace("'gen_len': 8167644", "'gen_len': np.int64(8167644)")),
        {"Offline.accuracy.gen_len"},
    ),
    "whole accuracy log": (
        lambda f: (f.accuracy("Server") / "mlperf_log_accuracy.json").write_text("[" + " " * 20000 + "]"),
        {"Server.accuracy.truncated"},
    ),
    "empty TEST06": (_test06(lambda r: r.clear()), {"Server.test06.log"}),
    "99 records": (_test06(lambda r: r.pop()), {"Server.test06.log"}),
    "TEST06 of 129 tokens": (
        _test06(lambda r: r[3].update(data=folders.hex_of(*range(129)), token_count=129)),
        {"Server.test06.log"},
    ),
    "TEST06 said to fail": (
        lambda f: (f.test06("Server") / "verify_accuracy.txt").write_text("EOS check pass: False\n"),
        {"Server.test06.text"},
    ),
    "no TEST06": (
        _remove(lambda f: f.test06("Server")),
        {"Server.test06.text", "Server.test06.log"},
    ),
    "system key missing": (
        _json(lambda f: f.system_json, lambda d: d.pop("cooling")),
        {"system.keys"},
    ),
    "system key empty": (_json(lambda f: f.system_json, lambda d: d.update(framework="")), {"system.filled"}),
    "status": (_json(lambda f: f.system_json, lambda d: d.update(status="soon")), {"system.names"}),
    "submitter": (_json(lambda f: f.system_json, lambda d: d.update(submitter="other")), {"system.names"}),
    "category": (_json(lambda f: f.system_json, lambda d: d.update(system_type="edge")), {"system.names"}),
    "measurements": (
        _json(lambda f: f.measurements_json("Offline"), lambda d: d.update(retraining="")),
        {"Offline.measurements"},
    ),
    "no user.conf": (_remove(lambda f: f.measurements("Offline") / "user.conf"), {"Offline.metadata"}),
    "no source": (_remove(lambda f: f.source), {"source"}),
    "no documents": (_remove(lambda f: f.documentation), {"calibration", "bandwidth"}),
    "no Server nor Interactive": (
        lambda f: remove_all(f.results("Server"), f.results("Interactive")),
        {"scenarios"},
    ),
    "watermark": (
        lambda f: (f.measurements("Offline") / "README.md").write_text(documents.WATERMARK),
        {"watermark"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN_TREES)
def test_broken_tree_fails_by_name(what: str, good_tree: Path, tmp_path: Path) -> None:
    breaking, expected = BROKEN_TREES[what]
    shutil.copytree(good_tree, tmp_path / "tree")
    breaking(layout_of(tmp_path / "tree"))
    assert failed(tmp_path / "tree") == expected


def test_wrong_hash_and_numbers_are_seen_against_the_record(run: RunFolder, tmp_path: Path) -> None:
    """A hash that could be right, and a log that was polished, do not match what was packed."""
    root = packed(tmp_path, run)
    layout, used = layout_of(root), settings(tmp_path, INFERENCE_DIR=str(tmp_path))
    _scores(lambda t: re.sub("hash=.*", f"hash={'0' * 64}", t))(layout)
    folders.edit_detail(layout.performance("Offline"), result_samples_per_second=43.0)
    report = submission.check(root, used, {})
    assert {c.name for c in report.failed} == {"record/Offline.accuracy.hash", "record/Offline.results"}


def test_check_without_the_official_checker(good_tree: Path, tmp_path: Path) -> None:
    report = submission.check(good_tree, settings(tmp_path, INFERENCE_DIR=str(tmp_path)), {})
    assert report.failed == [] and report.exit_code == EXIT_MISSING
    assert "was not run" in report.text()


def test_a_checkout_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=str(tmp_path)):
        official.find(settings(tmp_path, INFERENCE_DIR=str(tmp_path)))


def _repository(path: Path) -> str:
    """A repository with a checker in it and a file beside it; its commit."""
    main = path / official.TOOLS / "submission_checker" / "main.py"
    main.parent.mkdir(parents=True)
    main.write_text("print('SUMMARY: submission looks OK')\n")
    (path / "large.bin").write_bytes(b"x" * 1000)
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "one"],
        ["config", "uploadpack.allowFilter", "true"],
    ):
        subprocess.run(["git", "-C", str(path), *command], check=True)
    done = subprocess.run(
        ["git", "-C", str(path), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_checker_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "COMMIT", _repository(tmp_path / "origin"))
    monkeypatch.setattr(official, "REPOSITORY", f"file://{tmp_path}/origin")
    monkeypatch.setattr(official, "IMAGE_DIR", tmp_path / "image")
    used = settings(tmp_path)
    checkout = official.find(used)
    assert (checkout / official.TOOLS / "submission_checker" / "main.py").is_file()
    assert not (checkout / official.TOOLS / "large.bin").exists()
    shutil.rmtree(tmp_path / "origin")
    assert official.find(used) == checkout
    assert official.run(checkout, tmp_path, "v6.1", None, dict(os.environ)).accepted


def test_checker_that_cannot_be_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(official, "REPOSITORY", f"file://{tmp_path}/nowhere")
    monkeypatch.setattr(official, "IMAGE_DIR", tmp_path / "image")
    with pytest.raises(MissingError, match="set INFERENCE_DIR"):
        official.find(settings(tmp_path))
    assert not list((tmp_path / "cache").glob("*"))


@pytest.mark.parametrize("name", ["nothing", "closed"])
def test_not_a_tree(name: str, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    with pytest.raises(UsageError):
        submission.check(tmp_path / name, settings(tmp_path), {})


def test_verify_test06_writes_the_official_form(run: RunFolder) -> None:
    assert test06.verify_run(run, "Offline").passed
    text = run.file("Offline/TEST06/verify_accuracy.txt").read_text()
    assert text.splitlines() == [
        "First token check pass: Skipped",
        "EOS check pass: True",
        "Sample length check pass: True",
        "TEST06 verification complete",
    ]
    folders.write_responses(run.file("Server/TEST06/mlperf_log_accuracy.json"), [])
    assert not test06.verify_run(run, "Server").passed
    assert "True" not in run.file("Server/TEST06/verify_accuracy.txt").read_text()
