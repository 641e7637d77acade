"""What a bundle gathers: by which sources, under which names, and what it says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlperf_llama import bundle, config
from mlperf_llama.config import Config
from mlperf_llama.errors import MissingError
from mlperf_llama.sources import calibration, dataset, model
from mlperf_llama.sources.chain import Served
from mlperf_llama.sources.fetch import cached
from mlperf_llama.submission import official


def served_by(source: str, path: Path) -> Served:
    return Served(source, str(path), "a" * 64, eligible=True)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose sources serve: the model from the user's folder, articles from the hub."""
    monkeypatch.setenv("HF_HUB_CACHE", "")
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    articles = tmp_path / "bundle/hub/articles.jsonl"
    articles.parent.mkdir(parents=True)
    articles.write_text("")

    def no_articles(source: str, config: Config, env: Mapping[str, str]) -> Served:
        raise MissingError(f"{source} does not answer")

    monkeypatch.setattr(model, "serve", lambda *_: served_by("path", weights))
    monkeypatch.setattr(dataset, "serve", lambda *_: served_by("huggingface", articles))
    monkeypatch.setattr(calibration, "serve", no_articles)
    monkeypatch.setattr(official, "find", lambda _: checker(tmp_path / "inference"))
    return tmp_path / "bundle"


def checker(folder: Path) -> Path:
    for name in ("tools/submission/main.py", "tools/submission/.git/config", "language/large.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def gather(target: Path) -> tuple[list[str], list[str]]:
    reported: list[str] = []
    lines = bundle.gather(target, config.load({"MODEL": "/weights"}, {}), {}, "cpu", reported.append)
    assert (target / bundle.FILE).read_text().splitlines() == lines
    return lines, reported


def test_a_path_is_copied_and_a_hub_source_named(target: Path) -> None:
    for _ in range(2):
        lines, reported = gather(target)
        assert "setting MLPERF_MODEL=@BUNDLE@/model/weights" in lines
        assert "setting MLPERF_DATASET_SOURCE=huggingface" in lines
        assert "setting HF_HUB_OFFLINE=1" in lines and "build=cpu" in lines
        assert (target / "model/weights/config.json").read_text() == "{}"
        assert any(line.startswith("left out: calibration articles") for line in reported)
        assert not [line for line in lines if "CALIBRATION" in line]


def test_the_checker_comes_without_the_rest_of_its_checkout(target: Path) -> None:
    assert "setting MLPERF_INFERENCE_DIR=@BUNDLE@/inference" in gather(target)[0]
    files = sorted(str(p.relative_to(target)) for p in (target / "inference").rglob("*") if p.is_file())
    assert files == ["inference/tools/submission/main.py"]


def test_a_bundle_without_a_model_is_none(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(source: str, config: Config, env: Mapping[str, str]) -> Served:
        raise MissingError("no token")

    monkeypatch.setattr(model, "serve", nothing)
    with pytest.raises(MissingError, match="no model could be had: path: no token"):
        gather(target)
    assert not (target / bundle.FILE).exists()


def test_sizes_are_said_and_compared_with_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[str] = []
    settings = config.load({}, {})
    bundle.say_sizes(tmp_path, config.load({"MODEL": "stand-in"}, {}), "cpu", reported.append)
    assert any("GB  model (the stand-in)" in line for line in reported) and "in all at most" in reported[-1]
    full = type("Usage", (), {"free": 5_000_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    with pytest.raises(MissingError, match=r"expected 22\.\d GB free in .*, found 5\.0 GB"):
        bundle.say_sizes(tmp_path, settings, "cuda", reported.append)
    bundle.say_sizes(tmp_path, config.load({"MODEL": "stand-in"}, {}), "cpu", reported.append)


def test_a_bundle_that_was_moved_names_its_new_place(target: Path, tmp_path: Path) -> None:
    gather(target)
    record, folder = target / "cache/dataset/synthetic/a.json", target / "cache/models/stand-in"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"path": f"{target}/cache/dataset/synthetic/a.jsonl"}))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    cached.mark_complete(folder, ["config.json"])
    moved = tmp_path / "elsewhere"
    shutil.copytree(target, moved, copy_function=shutil.copyfile)
    assert not cached.is_complete(moved / "cache/models/stand-in")
    for _ in range(2):
        bundle.settle(moved)
        assert cached.is_complete(moved / "cache/models/stand-in")
        path = json.loads((moved / "cache/dataset/synthetic/a.json").read_text())["path"]
        assert path == f"{moved}/cache/dataset/synthetic/a.jsonl"
