"""Static scales in the verdict and in packing: a good run passes, each change is refused by its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import run_folders as folders
from submission_trees import failed, layout_of, packed

from mlperf_llama import verdict
from mlperf_llama.errors import InvalidError
from mlperf_llama.records import scales
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.scales import Scales
from mlperf_llama.records.schema import Check, Provenance
from mlperf_llama.submission import calibration

Json = folders.Json
OTHER = "f" * 64


@pytest.fixture
def run(run: RunFolder) -> RunFolder:
    folders.add_static_scales(run)
    return run


def check(run: RunFolder, name: str) -> Check:
    return next(c for c in verdict.examine(run) if c.name == name)


def edit(run: RunFolder, name: str, change: Callable[[Json], object]) -> None:
    folders.edit_json(run.file(name), lambda data: change(data) and None)


def test_a_good_run_passes(run: RunFolder) -> None:
    assert [c.name for c in verdict.examine(run) if not c.passed] == []
    assert check(run, "scales").detail.startswith("static, sha256 ")
    assert check(run, "calibration_eligible").detail.startswith("mlcommons, 1000 articles")


def _record(change: Callable[[Json], object]) -> Callable[[RunFolder], None]:
    """A change of scales.json that somebody carries through everything that names the file's hash."""

    def apply(run: RunFolder) -> None:
        edit(run, Scales.FILE, change)
        folders.name_scales(run)

    return apply


def _values(change: Callable[[Json], object]) -> Callable[[RunFolder], None]:
    return _record(lambda d: change(d["scales"]))


NAME = "model.layers.3.mlp.down_proj.input_scale"
CHANGES: dict[str, tuple[Callable[[RunFolder], None], str, str]] = {
    "other ids": (_record(lambda d: d.update(ids_sha256=OTHER)), "scales", f"ids_sha256 {OTHER}, expected"),
    "one id fewer": (_record(lambda d: d.update(ids_count=999)), "scales", "ids_count 999, expected 1000"),
    "another model's": (_record(lambda d: d.update(model_sha256=OTHER)), "scales", f"model_sha256 {OTHER}"),
    "another tokenizer": (
        _record(lambda d: d.update(tokenizer_sha256=OTHER)),
        "scales",
        f"tokenizer_sha256 {OTHER}",
    ),
    "other code": (_record(lambda d: d.update(code_sha256=OTHER)), "scales", f"code_sha256 {OTHER}"),
    "another method": (_record(lambda d: d["method"].update(revision=0)), "scales", "method "),
    "other articles": (
        _record(lambda d: d["calibration"].update(sha256=OTHER)),
        "scales",
        f"calibration.sha256 {OTHER}",
    ),
    "articles of another source": (
        _record(lambda d: d["calibration"].update(source="path")),
        "scales",
        "calibration.source path, expected mlcommons",
    ),
    "a value missing": (_values(lambda d: d.pop(NAME)), "scales", f"expected a scale {NAME}, found none"),
    "a layer missing": (
        _values(lambda d: [d.pop(n) for n in scales.names(32)[-10:]]),
        "scales",
        "expected a scale model.layers.31.",
    ),
    "NaN": (_values(lambda d: d.update({NAME: math.nan})), "scales", f"{NAME}: expected a number above 0"),
    "zero": (_values(lambda d: d.update({NAME: 0.0})), "scales", f"{NAME}: expected a number above 0"),
    "an edited value": (
        lambda run: edit(run, Scales.FILE, lambda d: d["scales"].update({NAME: 2.0})),
        "scales",
        "sha256 ",
    ),
    "no file": (lambda run: run.file(Scales.FILE).unlink(), "scales", "found none"),
    "a file that nothing names": (
        lambda run: edit(run, "provenance.json", lambda d: d.pop("scales")),
        "scales",
        "mode not recorded, expected static",
    ),
    "called dynamic": (
        lambda run: edit(run, "provenance.json", lambda d: d["scales"].update(mode="dynamic")),
        "scales",
        "mode dynamic, expected static",
    ),
    "one run was dynamic": (
        lambda run: edit(
            run,
            "results.json",
            lambda d: d["scenarios"]["Server"].update(
                engine_settings={"performance": {**d["engine"]["settings"], "quantization": "fp8"}}
            ),
        ),
        "scales",
        "quantization fp8, expected fp8-scales",
    ),
    "one run had others": (
        lambda run: edit(
            run,
            "results.json",
            lambda d: d["scenarios"]["Server"].update(
                engine_settings={"performance": {**d["engine"]["settings"], "scales_sha256": OTHER}}
            ),
        ),
        "scales",
        f"scales_sha256 {OTHER}, expected",
    ),
    "loaded without them": (
        lambda run: edit(run, "engine.json", lambda d: d["loads"][0]["arguments"].update(quantization="fp8")),
        "scales",
        "quantization fp8, expected fp8-scales",
    ),
    "articles that nothing proves": (
        lambda run: edit(
            run,
            "provenance.json",
            lambda d: d["calibration"].update(eligible=False, reason="no published checksum verifies it"),
        ),
        "calibration_eligible",
        "no published checksum verifies it",
    ),
    "fewer articles": (
        lambda run: edit(run, "provenance.json", lambda d: d["calibration"].update(rows=999)),
        "calibration_eligible",
        "999 articles",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_refused_by_name(what: str, run: RunFolder, tmp_path: Path) -> None:
    change, name, words = CHANGES[what]
    change(run)
    folders.reseal(run)
    failing = check(run, name)
    assert not failing.passed and words in failing.detail
    with pytest.raises(InvalidError, match=rf"\b{name}: "):
        packed(tmp_path, run)


def test_the_pinned_tokenizer_alone_goes_with_pinned_weights(run: RunFolder) -> None:
    edit(run, "provenance.json", lambda d: d["model"].update(details={"proof": "SHA-256"}))
    folders.reseal(run)
    assert "tokenizer_sha256" in check(run, "scales").detail


def test_an_edit_after_the_run_breaks_the_seal(run: RunFolder) -> None:
    edit(run, Scales.FILE, lambda d: d["scales"].update({NAME: 2.0}))
    assert check(run, "seal").detail == "scales.json changed"


def test_dynamic_scales_need_no_data(good: Path) -> None:
    assert check(RunFolder(good), "scales").detail == "dynamic, nothing calibrated"
    assert check(RunFolder(good), "calibration_eligible").passed


def test_the_closed_tree(run: RunFolder, tmp_path: Path) -> None:
    root = packed(tmp_path, run)
    assert root.parent.name == "submittable" and failed(root) == set()
    documentation = layout_of(root).documentation
    text = (documentation / calibration.NAME).read_text()
    (values,) = documentation.glob("scales-*.json")
    assert values.read_bytes() == run.file(Scales.FILE).read_bytes()
    assert "## Offline, Server, Interactive" in text
    for words in (
        "1,000 articles",
        "https://example.org/calibration.uri",
        values.name,
        "H100",
        "KV cache is fp8",
    ):
        assert words in text
    layout = layout_of(root)
    assert '"weight_data_types": "fp8"' in layout.measurements_json("Offline").read_text()


def test_each_scenario_is_told_as_it_ran(run: RunFolder, good: Path) -> None:
    record = scales.read(run.file(Scales.FILE))
    model = run.read(Provenance).model
    assert model
    settings = {"quantization": "fp8-scales", "kv_cache_dtype": "fp8"}
    used = [
        calibration.Used("Offline", settings, model, record, "scales-1.json"),
        calibration.Used("Server", {"quantization": "fp8", "kv_cache_dtype": "fp8"}, model),
        calibration.Used("Interactive", {"dtype": "bfloat16"}, model),
    ]
    text = calibration.document(used, watermark=False)
    parts = text.split("## ")[1:]
    assert [part.partition("\n")[0] for part in parts] == ["Offline", "Server", "Interactive"]
    assert "scales-1.json" in parts[0]
    assert "none: scales are computed at load and at run time" in parts[1]
    assert "as published, in bf16" in parts[2] and "activations' type" in parts[2]


def test_open_takes_its_own_articles(run: RunFolder, tmp_path: Path) -> None:
    edit(run, "provenance.json", lambda d: d["calibration"].update(eligible=False, reason="mine", rows=12))
    edit(run, "provenance.json", lambda d: d["scales"].update(ids_count=12))
    _record(lambda d: d.update(ids_count=12))(run)
    folders.reseal(run)
    assert packed(tmp_path, run, DIVISION="open").parent.name == "open"
