"""Packing proves the calibration articles, and the prompts that static scales name, from their bytes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import proof_support as support
import pytest
import run_folders as folders
from submission_trees import closed_alone_refuses, packed_by_bytes
from test_prepare import write_tokenizer

from mlperf_llama import rules
from mlperf_llama.errors import InvalidError
from mlperf_llama.records import scales
from mlperf_llama.records.files import digest
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.scales import Scales
from mlperf_llama.sources import pins
from mlperf_llama.sources.calibration import official
from mlperf_llama.sources.dataset import official as dataset
from mlperf_llama.sources.model import checkpoint, tokens

pytestmark = pytest.mark.slow

COUNT = rules.CALIBRATION_COUNT
PROMPTS = [[1, 2 + number] for number in range(COUNT)]
INSTRUCTION = rules.PROMPT_TEMPLATE.replace("{article}", "{input}")


def articles(text: str = "a") -> bytes:
    fixed = {"instruction": INSTRUCTION, "output": "o"}
    return json.dumps(
        [{**fixed, "input": f"{text}{n}", "tok_input": ids} for n, ids in enumerate(PROMPTS)]
    ).encode()


@dataclass(frozen=True)
class Inputs:
    run: RunFolder
    articles: Path
    model: Path


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    """A good run with static scales, whose small inputs are the pinned ones."""
    data = support.write({"cnn_eval.json": support.array("a", 13368)}, tmp_path / "data") / "cnn_eval.json"
    model = support.write(support.model_files(), tmp_path / "model")
    write_tokenizer(model)
    calibration = support.write({official.NAME: articles()}, tmp_path / "articles") / official.NAME
    known = dataset.OFFICIAL[rules.DATACENTER]
    pinned = dataclasses.replace(known, sha256=digest(data))
    monkeypatch.setitem(dataset.OFFICIAL, rules.DATACENTER, pinned)
    monkeypatch.setattr(
        official, "OFFICIAL", dataclasses.replace(official.OFFICIAL, sha256=digest(calibration))
    )
    monkeypatch.setattr(pins, "CALIBRATION", digest(calibration))
    hashes = {name: support.sha256(body) for name, body in support.WEIGHTS.items()}
    monkeypatch.setattr(checkpoint, "SHARDS", hashes)
    for place, name in ((tokens, "REFERENCE_SHA256"), (pins, "TOKENIZER")):
        monkeypatch.setattr(place, name, digest(model / "tokenizer.json"))
    run = folders.good_run(tmp_path / "run")
    folders.add_static_scales(run)
    url = "http://127.0.0.1:9/metadata"
    folders.edit_json(run.file("config.json"), lambda d: d.update(r2_base_url=url, r2_model_url=url))
    proven = {"source": "path", "eligible": True, "details": {"proof": "SHA-256"}}

    def change(record: folders.Json) -> None:
        record["dataset"].update(proven, path=str(data), sha256=digest(data))
        record["model"].update(proven, path=str(model), sha256=checkpoint.combined(hashes))
        record["calibration"].update(proven, path=str(calibration), sha256=digest(calibration))

    folders.edit_json(run.file("provenance.json"), change)
    given = {"model": str(model)}
    folders.edit_json(run.file("engine.json"), lambda d: d["loads"][0]["arguments"].update(given))
    names(
        run,
        model_sha256=checkpoint.combined(hashes),
        tokenizer_sha256=digest(model / "tokenizer.json"),
        ids_sha256=scales.ids_sha256(PROMPTS),
        calibration={"source": "path", "sha256": digest(calibration)},
    )
    return Inputs(run, calibration, model)


def names(run: RunFolder, **values: object) -> None:
    """Have scales.json, and every record that repeats it, say so."""
    folders.edit_json(run.file(Scales.FILE), lambda d: d.update(values))
    repeated = {k: v for k, v in values.items() if k in ("tokenizer_sha256", "ids_sha256", "ids_count")}
    folders.edit_json(run.file("provenance.json"), lambda d: d["scales"].update(repeated))
    folders.name_scales(run)
    folders.reseal(run)


def test_what_is_as_the_run_used_it_is_packed(inputs: Inputs, tmp_path: Path) -> None:
    assert packed_by_bytes(tmp_path, inputs.run).parent.name == "submittable"


ATTACKS: dict[str, tuple[Callable[[Inputs], object], str]] = {
    "other articles": (lambda i: i.articles.write_bytes(articles("b")), "calibration_bytes: sha256 "),
    "articles gone": (lambda i: i.articles.unlink(), "calibration_bytes: could not be hashed again"),
    "other prompts, named everywhere": (
        lambda i: names(i.run, ids_sha256=scales.ids_sha256(PROMPTS[1:])),
        r"calibration_prompts: ids_sha256 \w+, \w+ in scales\.json",
    ),
    "another tokenizer": (
        lambda i: write_tokenizer(i.model, bos="<other>"),
        "calibration_prompts: .*tokenizer_sha256",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_not_is_refused(inputs: Inputs, tmp_path: Path, attack: str) -> None:
    change, words = ATTACKS[attack]
    change(inputs)
    closed_alone_refuses(tmp_path, inputs.run, words)


def test_invented_articles_called_official(inputs: Inputs, tmp_path: Path) -> None:
    """Every record names them, and the folder is sealed again."""
    inputs.articles.write_bytes(articles("invented"))
    sha256 = digest(inputs.articles)
    folders.edit_json(inputs.run.file("provenance.json"), lambda d: d["calibration"].update(sha256=sha256))
    names(inputs.run, calibration={"source": "path", "sha256": sha256})
    with pytest.raises(InvalidError, match="calibration_bytes: no published checksum verifies the file"):
        packed_by_bytes(tmp_path, inputs.run)
