"""The verdict on a folder whose files were changed, or whose records are broken, of other types or absent."""

from __future__ import annotations

from pathlib import Path

import pytest
import run_folders as folders
from verdict_support import failed

from mlperf_llama import rules, verdict
from mlperf_llama.records import seal
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Results, Seal


@pytest.mark.parametrize(
    "name",
    ["config.json", "provenance.json", "results.json", "Offline/user.conf", "Server/accuracy/accuracy.txt"],
)
def test_edited_file_breaks_the_seal(name: str, run: RunFolder) -> None:
    path = run.file(name)
    path.write_text(path.read_text() + " ")
    assert failed(run) == ["seal"]


def test_added_and_removed_files_break_the_seal(run: RunFolder) -> None:
    run.file("Offline/extra.json").write_text("{}")
    run.file("Offline/user.conf").unlink()
    (seal_check,) = [c for c in verdict.examine(run) if c.name == "seal"]
    assert "Offline/extra.json added" in seal_check.detail and "Offline/user.conf gone" in seal_check.detail


def test_an_edit_before_a_later_stage_stays_on_record(run: RunFolder) -> None:
    folders.edit_json(run.file("provenance.json"), lambda d: d["model"].update(eligible=True))
    with seal.stage(run, "score"):
        pass
    assert failed(run) == ["seal"]
    assert seal.differences(run) == []


def test_a_stage_may_write(run: RunFolder) -> None:
    with seal.stage(run, "score"):
        run.update(Results, finished="2026-11-23T10:00:00")
    assert failed(run) == []


def test_no_seal_is_not_submittable(run: RunFolder) -> None:
    run.file(Seal.FILE).unlink()
    assert failed(run) == ["seal"]


# What rests on each record, besides `records` itself.
DEPENDENTS = {
    "config.json": {"round", "loadgen_version", "samples", "duration", "engine"},
    "provenance.json": {
        "machine", "round", "loadgen_version", "dataset_source", "dataset_eligible", "dataset_rows",
        "model_source", "model_eligible", "samples", "duration", "engine_arguments",
    },
    "results.json": {
        "complete", "round", "engine", "extension", "weights", "prefix_caching", "speculative_decoding",
        "prompt_length",
        "Offline.results", "Offline.accuracy.results", "Offline.same_settings",
    },
    "system.json": {"commit", "gpu"},
}  # fmt: skip


@pytest.mark.parametrize("name", DEPENDENTS)
@pytest.mark.parametrize("content", ["", "{", "[]", "null", None])
def test_a_broken_record_fails_by_name_with_all_that_rests_on_it(
    name: str, content: str | None, run: RunFolder
) -> None:
    run.file(name).unlink()
    if content is not None:
        run.file(name).write_text(content)
    folders.reseal(run)
    names = failed(run)
    assert {"records"} | DEPENDENTS[name] <= set(names)
    if name != "config.json":
        assert {n for n in names if "." not in n} == {"records"} | {
            n for n in DEPENDENTS[name] if "." not in n
        }


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("config.json", "samples", "all"),
        ("provenance.json", "shortened", "no"),
        ("provenance.json", "resumed", 1),
        ("provenance.json", "dataset", {"source": "mlcommons", "eligible": "true"}),
        ("results.json", "scenarios", []),
        ("system.json", "gpus", {}),
    ],
)
def test_a_field_of_another_type_breaks_its_record(
    name: str, field: str, value: object, run: RunFolder
) -> None:
    folders.edit_json(run.file(name), lambda d: d.update({field: value}))
    folders.reseal(run)
    assert "records" in failed(run)


@pytest.mark.parametrize("content", ["", "[]", '{"files": 1}'])
def test_a_broken_seal_is_not_submittable(content: str, run: RunFolder) -> None:
    run.file(Seal.FILE).write_text(content)
    assert failed(run) == ["seal"]


def test_a_bare_folder_is_judged(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    folders.write_json(run, "config.json", folders.config_values(("Offline",), rules.DATACENTER, "v6.1"))
    names = failed(run)
    assert {"records", "complete", "seal", "scenarios", "engine", "Offline.performance"} <= set(names)


def test_wrong_types_never_pass(run: RunFolder) -> None:
    folders.edit_json(run.file("results.json"), lambda d: d.update(engine=[], scenarios="all", status=True))
    folders.edit_json(run.file("provenance.json"), lambda d: d.update(dataset=[], model=1))
    folders.reseal(run)
    assert {"complete", "engine", "dataset_eligible", "model_eligible"} <= set(failed(run))
