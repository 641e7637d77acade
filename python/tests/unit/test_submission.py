"""Packing and checking: good trees for every round, refusals, and a tree broken in many ways.

Over 400 lines: the table of broken trees and what packs the tree they break belong together.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import run_folders as folders

from mlperf_llama import config, rules, submission
from mlperf_llama.config import Config
from mlperf_llama.errors import EXIT_INVALID, EXIT_MISSING, EXIT_OK, InvalidError, MissingError, UsageError
from mlperf_llama.results import RunFolder
from mlperf_llama.submission import description, flat, official, tree, truncation, words
from mlperf_llama.submission.layout import Layout
from mlperf_llama.verdict import seal

Break = Callable[[Layout], None]
# What no machine tells.
SYSTEM_TOML = """
host_memory_configuration = "16x 64 GB DDR5"
host_networking_topology = "none"
accelerator_memory_configuration = "HBM3"
cooling = "air"
"""


def settings(tmp_path: Path, **flags: str) -> Config:
    (tmp_path / "system.toml").write_text(SYSTEM_TOML)
    given = {"SUBMITTER": "acme", "SYSTEM_FILE": str(tmp_path / "system.toml"), **flags}
    return config.load({**given, "CACHE_DIR": str(tmp_path / "cache")}, {})


def same_scores(run: RunFolder, scenario: str) -> dict[str, Any]:
    """Scoring again that gives what the run folder says."""
    return folders.scores_of(run.read("config.json")["category"])


def packed(tmp_path: Path, *runs: RunFolder, **flags: str) -> Path:
    used = settings(tmp_path, **flags)
    return submission.pack(used, {}, tmp_path / "results", [r.path for r in runs], same_scores)


def layout_of(root: Path) -> Layout:
    ((found, _),) = tree.layouts(root)
    return found


def failed(root: Path) -> set[str]:
    place = re.compile(r"^(closed|open)/[^/]+/[^/]+/[^/]+/")
    return {place.sub("", c.name) for c in tree.examine(root) if c.passed is not True}


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.good_run(tmp_path_factory.mktemp("good") / "run").path


@pytest.fixture
def run(good: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(good, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="session")
def good_tree(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("packed"), RunFolder(good))


def checkout() -> Path:
    named = os.environ.get("MLPERF_INFERENCE_DIR", "")
    if not named or not (Path(named) / official.TOOLS / "submission_checker").is_dir():
        pytest.skip("MLPERF_INFERENCE_DIR names no checkout of mlcommons/inference")
    return Path(named)


@pytest.mark.parametrize("category", rules.SAMPLE_COUNT)
@pytest.mark.parametrize("round_name", rules.ROUNDS)
@pytest.mark.parametrize("division", ["closed", "open"])
def test_good_trees(division: str, round_name: str, category: str, tmp_path: Path) -> None:
    run = folders.good_run(tmp_path / "run", category, round_name)
    root = packed(tmp_path, run, DIVISION=division, ROUND=round_name, CATEGORY=category)
    assert root.parent.name == {"closed": "submittable", "open": "open"}[division]
    found = layout_of(root)
    assert (found.round, found.submitter, found.division) == (round_name, "acme", division)
    assert failed(root) == set()
    split = round_name == "v5.1"
    home = root / division / "acme"
    assert (home / "measurements").is_dir() is split and (home / "compliance").is_dir() is split
    assert (home / ("code" if split else "src") / found.benchmark / "pyproject.toml").is_file()
    assert (home / "model_mapping.json").is_file() is (division == "open")
    system = json.loads(found.system_json.read_text())
    assert set(description.KEYS) <= set(system) and len(description.KEYS) == 35


@pytest.mark.parametrize("category", rules.SAMPLE_COUNT)
@pytest.mark.parametrize("round_name", rules.ROUNDS)
def test_official_checker_accepts(round_name: str, category: str, tmp_path: Path) -> None:
    where = checkout()
    run = folders.good_run(tmp_path / "run", category, round_name)
    root = packed(tmp_path, run, ROUND=round_name, CATEGORY=category)
    report = submission.check(root, settings(tmp_path, INFERENCE_DIR=str(where)), dict(os.environ))
    assert report.exit_code == EXIT_OK, report.text()
    assert report.official[round_name].output.count(official.ACCEPTED) == 1


def test_official_refusal_is_reported(good_tree: Path, tmp_path: Path) -> None:
    where = checkout()
    shutil.copytree(good_tree, tmp_path / "tree")
    folders.edit_detail(layout_of(tmp_path / "tree").performance("Offline"), effective_min_duration_ms=60000)
    report = submission.check(
        tmp_path / "tree", settings(tmp_path, INFERENCE_DIR=str(where)), dict(os.environ)
    )
    assert not report.accepted and report.exit_code == EXIT_INVALID
    assert "refuses" in report.text() and "Test duration less than 600s" in report.text()


def test_flat_files(good_tree: Path) -> None:
    home = good_tree.parent
    record = json.loads(flat.record_name(home, good_tree).read_text())
    assert record["division"] == "closed" and set(record["scenarios"]) == {"Offline", "Server", "Interactive"}
    assert all(c["passed"] for some in record["checks"].values() for c in some)
    assert {"system_description.json", "run.sh"} <= {p.name for p in home.iterdir()}
    assert (
        "make run SCENARIO=Offline,Server,Interactive MODE=all ROUND=v6.1 CATEGORY=datacenter\n"
        in (home / "run.sh").read_text()
    )
    assert not [p for p in home.iterdir() if p.name.startswith(".packing")]


def test_run_script_repeats_what_was_chosen() -> None:
    chosen = {"TARGET_QPS": "45", "ENGINE_ARGS": '{"async_scheduling": true}', "QUANTIZATION": "fp8"}
    told = words.command(config.load(chosen, {}).to_json(), ["Offline"])
    assert told[4:] == [
        "ROUND=v6.1",
        "CATEGORY=datacenter",
        "QUANTIZATION=fp8",
        'ENGINE_ARGS={"async_scheduling": true}',
        "TARGET_QPS=45.0",
    ]
    again = dict(word.split("=", 1) for word in told[4:])
    assert config.load(again, {}) == config.load(chosen, {})


def test_truncated_log_keeps_both_ends(good: Path, good_tree: Path) -> None:
    """The same bytes as the official tool's: 4096, a gap, 4096."""
    log = good / "Offline/accuracy/mlperf_log_accuracy.json"
    text, short = log.read_text(), layout_of(good_tree).accuracy("Offline") / log.name
    assert short.read_text() == text[:4096] + "\n\n...\n\n" + text[-4096:]
    assert f"hash={seal.file_sha256(log)}" in (short.parent / "accuracy.txt").read_text()


def test_short_log_stays_whole(tmp_path: Path) -> None:
    assert truncation.truncated("[\n]\n") == "[\n]\n"


def _remove_all(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path)


# What a division refuses: how the run folder is broken, and the check that is named.
REFUSED: dict[str, tuple[Callable[[RunFolder], None], str]] = {
    "stand-in": (
        lambda r: folders.edit_json(
            r.file("provenance.json"), lambda d: d["model"].update(source="stand-in", eligible=False)
        ),
        "model_eligible",
    ),
    "synthetic": (
        lambda r: folders.edit_json(
            r.file("provenance.json"), lambda d: d["dataset"].update(source="synthetic", eligible=False)
        ),
        "dataset_source",
    ),
    "subset": (lambda r: folders.edit_json(r.file("config.json"), lambda d: d.update(samples=24)), "samples"),
    "INVALID": (
        lambda r: folders.edit_detail(r.log_dir("Offline", "performance"), result_validity="INVALID"),
        "Offline.valid",
    ),
    "no TEST06": (lambda r: shutil.rmtree(r.log_dir("Server", "compliance")), "Server.compliance"),
    "only Offline": (
        lambda r: _remove_all(r.scenario("Server"), r.scenario("Interactive")),
        "required",
    ),
    "accuracy": (
        lambda r: r.file("Offline/accuracy/accuracy.txt").write_text("{'rouge1': '38.38'}\n"),
        "Offline.accuracy.rouge1",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_closed_refuses(what: str, run: RunFolder, tmp_path: Path) -> None:
    breaking, name = REFUSED[what]
    breaking(run)
    folders.reseal(run)
    with pytest.raises(InvalidError, match=re.escape(name)):
        packed(tmp_path, run)
    assert not list((tmp_path / "results").glob("*/*"))


def test_edited_json_cannot_be_packed(run: RunFolder, tmp_path: Path) -> None:
    """Made eligible with an editor, in any division."""
    folders.edit_json(run.file("provenance.json"), lambda d: d["model"].update(revision="another"))
    for division in ("closed", "open"):
        with pytest.raises(InvalidError, match="seal"):
            packed(tmp_path, run, DIVISION=division)


def test_edited_verdict_changes_nothing(run: RunFolder, tmp_path: Path) -> None:
    folders.edit_json(run.file("provenance.json"), lambda d: d["model"].update(eligible=False))
    folders.reseal(run)
    run.write("verdict.json", {"submittable": True, "checks": []})
    with pytest.raises(InvalidError, match="model_eligible"):
        packed(tmp_path, run)


def test_renamed_scenario_folder_is_refused(run: RunFolder, tmp_path: Path) -> None:
    run.scenario("Server").rename(run.scenario("SingleStream"))
    folders.reseal(run)
    with pytest.raises(InvalidError, match=r"SingleStream\.performance\.scenario"):
        packed(tmp_path, run)


def test_open_tree_moved_to_closed_is_caught(run: RunFolder, tmp_path: Path) -> None:
    root = packed(tmp_path, run, DIVISION="open")
    (root / "open").rename(root / "closed")
    assert "system.names" in failed(root)


@pytest.mark.parametrize("division", ["closed", "open"])
@pytest.mark.parametrize("submitter", ["acme", "Selftest", "selftest1"])
def test_fake_engine_is_refused(division: str, submitter: str, run: RunFolder, tmp_path: Path) -> None:
    folders.edit_json(run.file("results.json"), lambda d: d["engine"].update(name="fake"))
    folders.reseal(run)
    with pytest.raises(InvalidError, match="selftest"):
        packed(tmp_path, run, DIVISION=division, SUBMITTER=submitter)


def test_fake_engine_hidden_in_results_is_refused(run: RunFolder, tmp_path: Path) -> None:
    folders.edit_json(run.file("config.json"), lambda d: d.update(engine="fake"))
    folders.reseal(run)
    with pytest.raises(InvalidError, match="selftest"):
        packed(tmp_path, run, DIVISION="open")


def fake_run(run: RunFolder) -> None:
    """As the fake engine leaves a folder: its own settings, a stand-in's and synthetic sources."""
    script = {"samples_per_s": 22}
    folders.edit_json(run.file("config.json"), lambda d: d.update(engine="fake"))
    folders.edit_json(
        run.file("results.json"), lambda d: d["engine"].update(name="fake", version="0.1.0", settings=script)
    )
    for kind, source in (("model", "fake"), ("dataset", "synthetic")):
        change = {"source": source, "eligible": False, "reason": "made up"}
        folders.edit_json(run.file("provenance.json"), lambda d, k=kind, c=change: d[k].update(c))
    folders.reseal(run)


def test_selftest_tree_is_watermarked_everywhere(run: RunFolder, tmp_path: Path) -> None:
    fake_run(run)
    root = packed(tmp_path, run, DIVISION="open", SUBMITTER="selftest")
    found = layout_of(root)
    assert root.parent.name == "selftest"
    marked = [
        found.system_json,
        *found.home.glob("results/**/README.md"),
        *found.home.glob("documentation/*.md"),
    ]
    assert len(marked) == 5 and all(words.WATERMARK in p.read_text() for p in marked)
    assert failed(root) == set()
    (root / "open" / "selftest").rename(root / "open" / "acme")
    assert {"watermark", "system.names"} <= failed(root)


def test_selftest_is_never_closed(run: RunFolder, tmp_path: Path) -> None:
    fake_run(run)
    with pytest.raises(InvalidError, match="open division only"):
        packed(tmp_path, run, SUBMITTER="selftest")


def test_open_says_what_it_is(run: RunFolder, tmp_path: Path) -> None:
    change = {"source": "stand-in", "eligible": False, "reason": "a stand-in", "path": "/m/SmolLM2-135M"}
    folders.edit_json(run.file("provenance.json"), lambda d: d["model"].update(change))
    folders.reseal(run)
    root = packed(tmp_path, run, DIVISION="open")
    found = layout_of(root)
    assert found.benchmark == "llama3.1-8b-smollm2-135m"
    assert json.loads((found.home / "model_mapping.json").read_text()) == {found.benchmark: "llama3.1-8b"}
    for text in (found.measurements("Offline") / "README.md", found.system_json):
        assert "Not the official model: stand-in (a stand-in)" in text.read_text()
    assert failed(root) == set()


@pytest.mark.parametrize("what", ["INVALID", "subset"])
def test_open_wants_whole_valid_runs(what: str, run: RunFolder, tmp_path: Path) -> None:
    breaking, name = REFUSED[what]
    breaking(run)
    folders.reseal(run)
    with pytest.raises(InvalidError, match=re.escape(name)):
        packed(tmp_path, run, DIVISION="open")


def test_two_run_folders_together(tmp_path: Path) -> None:
    offline = folders.good_run(tmp_path / "a", scenarios=("Offline",))
    server = folders.good_run(tmp_path / "b", scenarios=("Server",))
    with pytest.raises(InvalidError, match="required"):
        packed(tmp_path, offline)
    assert failed(packed(tmp_path, offline, server)) == set()
    with pytest.raises(UsageError, match="Offline in a and c"):
        packed(tmp_path, offline, folders.good_run(tmp_path / "c"))


def test_run_folders_of_two_models_are_refused(tmp_path: Path) -> None:
    offline = folders.good_run(tmp_path / "a", scenarios=("Offline",))
    server = folders.good_run(tmp_path / "b", scenarios=("Server",))
    folders.edit_json(server.file("provenance.json"), lambda d: d["model"].update(sha256="1" * 64))
    folders.reseal(server)
    with pytest.raises(InvalidError, match="one_model"):
        packed(tmp_path, offline, server)


@pytest.mark.parametrize("flags", [{"ROUND": "v6.0"}, {"CATEGORY": "edge"}])
def test_other_round_or_category_is_refused(flags: dict[str, str], run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="asked_"):
        packed(tmp_path, run, **flags)


def test_changed_source_is_refused(run: RunFolder, tmp_path: Path) -> None:
    folders.edit_json(run.file(seal.NAME), lambda d: d["stages"][0].update(source="0" * 64))
    with pytest.raises(InvalidError, match="source: ran with 000000000000"):
        packed(tmp_path, run)


def test_scores_that_cannot_be_made_again_are_refused(run: RunFolder, tmp_path: Path) -> None:
    used = settings(tmp_path)

    def lower(found: RunFolder, scenario: str) -> dict[str, Any]:
        return same_scores(found, scenario) | {"rouge2": 12.0}

    with pytest.raises(InvalidError, match=r"Offline\.rescored: rouge2 15\.9075, again 12\.0"):
        submission.pack(used, {}, tmp_path / "results", [run.path], lower)


def test_dataset_gone_is_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match=r"Offline\.rescored: /data: expected the dataset"):
        submission.pack(settings(tmp_path), {}, tmp_path / "results", [run.path])


def test_what_the_machine_tells(good_tree: Path) -> None:
    told = json.loads(layout_of(good_tree).system_json.read_text())
    expected = {
        "system_name": "Dell Inc. PowerEdge XE8640",
        "host_processors_per_node": "2",
        "host_processor_core_count": "32",
        "host_memory_capacity": "1008 GiB",
        "host_storage_capacity": "1920.4 GB",
        "host_networking": "10 Gbit/s Ethernet",
        "host_network_card_count": "2",
        "accelerators_per_node": "1",
        "accelerator_host_interconnect": "PCIe Gen5 x16",
        "accelerator_interconnect": "NVLink, 18 links",
        "framework": "vllm 0.26.0",
        "cooling": "air",
    }
    assert {k: told[k] for k in expected} == expected
    assert told["other_software_stack"]["CUDA driver"] == "580.65.06"
    assert layout_of(good_tree).system == "1xNVIDIA_H100_80GB_HBM3_vllm"


def test_missing_system_values_are_listed(run: RunFolder, tmp_path: Path) -> None:
    used = replace(settings(tmp_path), system_file=str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"cooling.*which this machine does not tell"):
        submission.pack(used, {}, tmp_path / "results", [run.path], same_scores)


@pytest.mark.parametrize(
    ("text", "said"),
    [("coling = 'air'", "coling is not a key"), ("division = 'closed'", "comes from the settings"),
     ("status = 'soon'", "expected one of available"), ("x", "expected TOML")],
)  # fmt: skip
def test_system_toml_is_checked(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "system.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        description.read_toml(tmp_path / "system.toml")


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "two words"])
def test_submitter_names(name: str, run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="SUBMITTER"):
        packed(tmp_path, run, **({"SUBMITTER": name} if name else {"SUBMITTER": " "}))


def _json(path: Callable[[Layout], Path], change: Callable[[dict[str, Any]], Any]) -> Break:
    return lambda found: folders.edit_json(path(found), change)


def _log(scenario: str, **values: Any) -> Break:
    return lambda found: folders.edit_detail(found.performance(scenario), **values)


def _scores(text: Callable[[str], str]) -> Break:
    def breaking(found: Layout) -> None:
        path = found.accuracy("Offline") / "accuracy.txt"
        path.write_text(text(path.read_text()))

    return breaking


def _remove(path: Callable[[Layout], Path]) -> Break:
    def breaking(found: Layout) -> None:
        target = path(found)
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return breaking


def _test06(change: Callable[[list[dict[str, Any]]], Any]) -> Break:
    def breaking(found: Layout) -> None:
        path = found.test06("Server") / "accuracy" / "mlperf_log_accuracy.json"
        records = json.loads(path.read_text())
        change(records)
        folders.write_answers(path, records)

    return breaking


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
    "no user.conf": (_remove(lambda f: f.measurements("Offline") / "user.conf"), {"Offline.papers"}),
    "no source": (_remove(lambda f: f.source), {"source"}),
    "no calibration": (_remove(lambda f: f.documentation), {"calibration"}),
    "no Server nor Interactive": (
        lambda f: _remove_all(f.results("Server"), f.results("Interactive")),
        {"scenarios"},
    ),
    "watermark": (
        lambda f: (f.measurements("Offline") / "README.md").write_text(words.WATERMARK),
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
    found, used = layout_of(root), settings(tmp_path, INFERENCE_DIR=str(tmp_path))
    _scores(lambda t: re.sub("hash=.*", f"hash={'0' * 64}", t))(found)
    folders.edit_detail(found.performance("Offline"), result_samples_per_second=43.0)
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
    found = official.find(used)
    assert (found / official.TOOLS / "submission_checker" / "main.py").is_file()
    assert not (found / official.TOOLS / "large.bin").exists()
    shutil.rmtree(tmp_path / "origin")
    assert official.find(used) == found
    assert official.run(found, tmp_path, "v6.1", None, dict(os.environ)).accepted


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
    assert submission.verify_test06(run, "Offline").passed
    text = run.file("Offline/TEST06/verify_accuracy.txt").read_text()
    assert text.splitlines() == [
        "First token check pass: Skipped",
        "EOS check pass: True",
        "Sample length check pass: True",
        "TEST06 verification complete",
    ]
    folders.write_answers(run.file("Server/TEST06/mlperf_log_accuracy.json"), [])
    assert not submission.verify_test06(run, "Server").passed
    assert "True" not in run.file("Server/TEST06/verify_accuracy.txt").read_text()
