"""Packing proves the dataset and the weights again from their bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import proof_support as support
import pytest
import run_folders as folders
from submission_trees import closed_alone_refuses, packed_by_bytes

from mlperf_llama import rules
from mlperf_llama.errors import InvalidError
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.sources.dataset import official
from mlperf_llama.sources.model import checkpoint, tokens

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Inputs:
    """What a run was made of, and its folder."""

    run: RunFolder
    data: Path
    model: Path


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """A good run, whose small dataset and weights are the pinned ones; its own counts are the full ones."""
    full = rules.SAMPLE_COUNT[rules.DATACENTER]
    body = support.array("a", full)
    with monkeypatch.context() as patch:
        support.small_pins(patch)
        pins = (checkpoint.SHARDS, tokens.REFERENCE_SHA256)
    monkeypatch.setattr(checkpoint, "SHARDS", pins[0])
    monkeypatch.setattr(tokens, "REFERENCE_SHA256", pins[1])
    known = official.OFFICIAL[rules.DATACENTER]
    pinned = official.Official(known.names, known.uri_name, known.rows, support.sha256(body))
    monkeypatch.setitem(official.OFFICIAL, rules.DATACENTER, pinned)
    data = support.write({"cnn_eval.json": body}, tmp_path / "data") / "cnn_eval.json"
    model = support.write(support.model_files(), tmp_path / "model")
    run = folders.good_run(tmp_path / "run")
    record(run, data, model)
    # A mirror, so that no test asks the real store.
    url = "http://127.0.0.1:9/metadata"
    folders.edit_json(run.file("config.json"), lambda d: d.update(r2_base_url=url, r2_model_url=url))
    folders.reseal(run)
    return Inputs(run, data, model)


def record(run: RunFolder, data: Path, model: Path) -> None:
    """What the run folder says of its dataset and its model: the bytes as they are now, and that they are
    official."""
    hashes = {path.name: support.sha256(path.read_bytes()) for path in model.glob("*.safetensors")}
    proven = {"eligible": True, "reason": "", "details": {"proof": "SHA-256", "announcement": {"url": "x"}}}
    dataset = {"source": "path", "path": str(data), "sha256": support.sha256(data.read_bytes()), **proven}
    weights = {"source": "path", "path": str(model), "sha256": checkpoint.combined(hashes), **proven}

    def change(data: folders.Json) -> None:
        data["dataset"].update(dataset)
        data["model"].update(weights)

    folders.edit_json(run.file("provenance.json"), change)
    folders.edit_json(run.file("engine.json"), lambda d: d["loads"][0]["arguments"].update(model=str(model)))
    folders.reseal(run)


def test_what_is_as_the_run_used_it_is_packed(inputs: Inputs, tmp_path: Path) -> None:
    assert packed_by_bytes(tmp_path, inputs.run).parent.name == "submittable"


ATTACKS: dict[str, tuple[Callable[[Inputs], object], str]] = {
    "weights replaced, size and time kept": (
        lambda i: support.replace_keeping_size_and_time(i.model / next(iter(support.WEIGHTS))),
        "model_bytes",
    ),
    "weights gone": (lambda i: shutil.rmtree(i.model), "model_bytes: could not be hashed again"),
    "another tokenizer": (lambda i: (i.model / "tokenizer.json").write_bytes(b"{}"), "model_bytes"),
    "dataset replaced": (lambda i: i.data.write_bytes(support.array("invented", 13368)), "dataset_bytes"),
    "dataset gone": (lambda i: i.data.unlink(), "dataset_bytes: could not be hashed again"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_not_is_refused(inputs: Inputs, tmp_path: Path, attack: str) -> None:
    change, words = ATTACKS[attack]
    change(inputs)
    closed_alone_refuses(tmp_path, inputs.run, words)


@pytest.mark.parametrize("source", ["path", "mlcommons"])
def test_a_provenance_written_by_hand_over_invented_inputs(
    inputs: Inputs, tmp_path: Path, source: str
) -> None:
    """It names the very hashes of the invented files, calls them official, and is sealed again."""
    inputs.data.write_bytes(support.array("invented", 13368))
    support.write(support.OTHER_WEIGHTS, inputs.model)
    record(inputs.run, inputs.data, inputs.model)

    def change(data: folders.Json) -> None:
        data["dataset"]["source"] = data["model"]["source"] = source

    folders.edit_json(inputs.run.file("provenance.json"), change)
    folders.reseal(inputs.run)
    with pytest.raises(
        InvalidError, match=r"dataset_bytes: no published checksum.*model_bytes: the weights are not"
    ):
        packed_by_bytes(tmp_path, inputs.run)
