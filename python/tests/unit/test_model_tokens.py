"""What serves the fake engine, and where answers end: no weights, no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlperf_llama import config as configs
from mlperf_llama.config import Config
from mlperf_llama.errors import MissingError, UsageError
from mlperf_llama.sources import model

pytestmark = pytest.mark.slow


def settings(cache: Path) -> Config:
    return configs.load({"CACHE_DIR": str(cache), "ENGINE": "fake"}, {})


def test_the_fake_tokenizer_is_small_cached_and_always_the_same(tmp_path: Path) -> None:
    config = settings(tmp_path / "cache")
    served = model.serve("fake", config, {})
    assert not served.eligible
    assert model.serve("fake", config, {}) == served
    other = model.serve("fake", settings(tmp_path / "b"), {})
    assert other.sha256 == served.sha256

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(served.path)
    text = "The mayor of Zürich said: “It cost 1,200 francs.”\n\nSummary:"
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert 4000 <= len(tokenizer) <= 8000
    assert model.stop_ids(Path(served.path)) == (tokenizer.eos_token_id,)
    assert not model.is_reference_tokenizer(Path(served.path))


def test_a_cache_that_cannot_be_written_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(MissingError, match="could not be written"):
        model.serve("fake", settings(tmp_path / "cache"), {})


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [128001, 128008]}, {"eos_token_id": 2}, (128001, 128008)),
        ({"eos_token_id": 5}, {}, (5,)),
        ({}, {"eos_token_id": 2}, (2,)),
        (None, {"eos_token_id": [2, 0]}, (2, 0)),
    ],
)
def test_stop_ids(
    tmp_path: Path, generation: dict[str, Any] | None, config: dict[str, Any], expected: tuple[int, ...]
) -> None:
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert model.stop_ids(tmp_path) == expected


def test_stop_ids_are_needed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="expected eos_token_id"):
        model.stop_ids(tmp_path)
