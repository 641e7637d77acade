"""Packing: good trees for every round, what a division refuses, what the documents say."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import run_folders as folders
from submission_trees import failed, layout_of, packed, remove_all, same_bytes, same_scores, settings

from mlperf_llama import config, rules, submission
from mlperf_llama.errors import InvalidError, UsageError
from mlperf_llama.records.files import digest
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Accuracy, Gpu, LoadedEngine, Member, Seal, System
from mlperf_llama.submission import description, documents, summary_files, truncation


@pytest.mark.parametrize("category", rules.SAMPLE_COUNT)
@pytest.mark.parametrize("round_name", rules.ROUNDS)
@pytest.mark.parametrize("division", ["closed", "open"])
def test_good_trees(division: str, round_name: str, category: str, tmp_path: Path) -> None:
    run = folders.good_run(tmp_path / "run", category, round_name)
    root = packed(tmp_path, run, DIVISION=division, ROUND=round_name, CATEGORY=category)
    assert root.parent.name == {"closed": "submittable", "open": "open"}[division]
    layout = layout_of(root)
    assert (layout.round, layout.submitter, layout.division) == (round_name, "acme", division)
    assert failed(root) == set()
    split = round_name == "v5.1"
    home = root / division / "acme"
    assert (home / "measurements").is_dir() is split and (home / "compliance").is_dir() is split
    assert (home / ("code" if split else "src") / layout.benchmark / "pyproject.toml").is_file()
    assert (home / "model_mapping.json").is_file() is (division == "open")
    system = json.loads(layout.system_json.read_text())
    assert set(description.KEYS) <= set(system) and len(description.KEYS) == 35


def test_summary_files(good_tree: Path) -> None:
    home = good_tree.parent
    record = json.loads(summary_files.record_path(home, good_tree).read_text())
    assert record["division"] == "closed" and set(record["scenarios"]) == {"Offline", "Server", "Interactive"}
    assert all(c["passed"] for some in record["checks"].values() for c in some)
    assert {"system_description.json", "run.sh"} <= {p.name for p in home.iterdir()}
    assert (
        "make run SCENARIO=Offline,Server,Interactive MODE=all ROUND=v6.1 CATEGORY=datacenter\n"
        in (home / "run.sh").read_text()
    )
    assert not [p for p in home.iterdir() if p.name.startswith(".")]


def test_run_script_repeats_what_was_chosen() -> None:
    chosen = {"TARGET_QPS": "45", "ENGINE_ARGS": '{"async_scheduling": true}', "QUANTIZATION": "fp8"}
    told = documents.command(config.load(chosen, {}), ["Offline"])
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
    assert f"hash={digest(log)}" in (short.parent / "accuracy.txt").read_text()


def test_short_log_stays_whole(tmp_path: Path) -> None:
    assert truncation.truncated("[\n]\n") == "[\n]\n"


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
        lambda r: remove_all(r.scenario("Server"), r.scenario("Interactive")),
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
    folders.write_json(run, "verdict.json", {"submittable": True, "checks": []})
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
    layout = layout_of(root)
    assert root.parent.name == "selftest"
    marked = [
        layout.system_json,
        *layout.home.glob("results/**/README.md"),
        *layout.home.glob("documentation/*.md"),
    ]
    assert len(marked) == 6 and all(documents.WATERMARK in p.read_text() for p in marked)
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
    layout = layout_of(root)
    assert layout.benchmark == "llama3.1-8b-smollm2-135m"
    assert json.loads((layout.home / "model_mapping.json").read_text()) == {layout.benchmark: "llama3.1-8b"}
    for text in (layout.measurements("Offline") / "README.md", layout.system_json):
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
    with pytest.raises(InvalidError, match="requested_"):
        packed(tmp_path, run, **flags)


def test_changed_source_is_refused(run: RunFolder, tmp_path: Path) -> None:
    folders.edit_json(run.file(Seal.FILE), lambda d: d["stages"][-1].update(source="0" * 64))
    with pytest.raises(InvalidError, match="source: ran with 000000000000"):
        packed(tmp_path, run)


def test_scores_that_cannot_be_made_again_are_refused(run: RunFolder, tmp_path: Path) -> None:
    used = settings(tmp_path)

    def lower(run: RunFolder, scenario: str) -> Accuracy:
        return replace(same_scores(run, scenario), rouge2=12.0)

    with pytest.raises(InvalidError, match=r"Offline\.rescored: rouge2 15\.9075, again 12\.0"):
        submission.pack(used, {}, tmp_path / "results", [run.path], lower, same_bytes)


def test_dataset_gone_is_refused(run: RunFolder, tmp_path: Path) -> None:
    used, results = settings(tmp_path), tmp_path / "results"
    with pytest.raises(InvalidError, match=r"Offline\.rescored: /data: expected a dataset file"):
        submission.pack(used, {}, results, [run.path], prove=same_bytes)
    with pytest.raises(InvalidError, match=r"dataset_bytes: could not be hashed again: /data: expected a"):
        submission.pack(used, {}, results, [run.path])


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
        submission.pack(used, {}, tmp_path / "results", [run.path], same_scores, same_bytes)


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


@pytest.mark.parametrize(
    ("gpus_of", "nodes", "per_node"),
    [
        ({"a": 8}, "1", "8"),
        ({"a": 8, "b": 8}, "2", "8"),
        # Unlike nodes are described by hand.
        ({"a": 8, "b": 7}, "2", ""),
    ],
)
def test_nodes_and_their_accelerators(gpus_of: dict[str, int], nodes: str, per_node: str) -> None:
    card = Gpu(name="NVIDIA H100 80GB HBM3", memory_gib=79.65)
    hosts = [host for host, count in gpus_of.items() for _ in range(count)]
    members = [Member(index, host, (card,)) for index, host in enumerate(hosts)]
    system = System(gpus=(card,) * len(members))
    values = description.measured(system, LoadedEngine(name="vllm", version="0.26.0"), members)
    assert (values["number_of_nodes"], values["accelerators_per_node"]) == (nodes, per_node)
