"""docs/schema/: made from the types, and able to find what is not as they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from run_folder_schemas import SCHEMAS, problems, run_folders

from mlperf_llama import config
from mlperf_llama.records import scales, schemas
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.scales import METHOD, Calibration, Scales
from mlperf_llama.records.schema import Provenance, Provided, Results, Scenario, Seal, System, Verdict


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Every record, each as little as it may hold."""
    folder = RunFolder.create(tmp_path, "schemas")
    settings = config.load({}, {}).to_json()
    folder.file("config.json").write_text(json.dumps({"schema_version": 1, **settings}))
    folder.write(System())
    folder.write(Provenance(dataset=Provided()))
    calibration = Calibration("path", "0" * 64)
    made = Scales(METHOD, "1" * 64, "2" * 64, "3" * 64, 1, calibration, "4" * 64, "2.11.0", "cpu", {"a": 1.0})
    scales.write(made, folder.file(Scales.FILE))
    folder.write(Results(scenarios={"Offline": Scenario()}))
    folder.write(Verdict())
    folder.write(Seal())
    folder.file("events.jsonl").write_text('{"time": "2026-11-23T12:15:00+00:00", "stage": "data", "x": 1}\n')
    return folder


def test_the_schemas_are_up_to_date(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.iterdir()}
    assert made == committed, "python -m mlperf_llama.records.schemas docs/schema"


@pytest.mark.parametrize("file", schemas.KINDS)
def test_each_is_a_json_schema(file: str) -> None:
    Draft202012Validator.check_schema(schemas.schema_of(file))


def test_what_the_writers_write_agrees(run: RunFolder, tmp_path: Path) -> None:
    assert problems(run.path) == []
    assert list(run_folders(tmp_path)) == [run.path]


@pytest.mark.parametrize(
    ("file", "old", "new", "place"),
    [
        ("config.json", '"engine": "vllm"', '"engine": 7', "$.engine"),
        ("system.json", '"packages": {}', '"packages": {"torch": 2}', "$.packages.torch"),
        ("provenance.json", '"attempts": []', '"attempts": [{"rung": "path"}]', "$.dataset.attempts[0]"),
        ("results.json", '"status": "running"', '"state": "running"', "$: 'status' is a required"),
        ("scales.json", '"a": 1.0', '"a": "1"', "$.scales.a"),
        ("verdict.json", '"checks": []', '"checks": [{"name": "seal"}]', "$.checks[0]"),
        ("hashes.json", '"schema_version": 1', '"schema_version": 2', "$.schema_version"),
        ("events.jsonl", '"stage"', '"step"', "$: 'stage' is a required"),
    ],
)
def test_what_is_not_as_the_types_say_is_found(
    run: RunFolder, file: str, old: str, new: str, place: str
) -> None:
    text = run.file(file).read_text()
    assert old in text
    run.file(file).write_text(text.replace(old, new))
    lines = problems(run.path)
    run.file(file).write_text(text)
    assert lines and all(f"/{file}: {place}" in line for line in lines)


def test_keys_of_a_later_version_agree(run: RunFolder) -> None:
    run.write(replace(run.read(Results), scenarios={}))
    data = json.loads(run.file("results.json").read_text())
    run.file("results.json").write_text(json.dumps({**data, "goodput_share": 0.9}))
    assert problems(run.path) == []
