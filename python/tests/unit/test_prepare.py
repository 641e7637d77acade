"""Prompts: the reference's text and ids, the cache, the limits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer

from mlperf_llama import rules
from mlperf_llama.errors import MissingError, UsageError
from mlperf_llama.records.files import digest
from mlperf_llama.sources.dataset import official
from mlperf_llama.sources.dataset import prepare as module
from mlperf_llama.sources.dataset.prepare import Samples, prepare

pytestmark = pytest.mark.slow

ARTICLES = ("The café {opens} on Monday.", "Rain.", "Goals were scored in the last minute of play.")


def write_tokenizer(folder: Path, bos: str = "<bos>") -> Path:
    """A byte-level tokenizer that puts BOS first, as Llama's does; one token a byte."""
    folder.mkdir(exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {bos: 0, **{letter: number for number, letter in enumerate(alphabet, 1)}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([bos])
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": bos}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "model")


def write_lines(folder: Path, articles: Sequence[str] = ARTICLES) -> Path:
    path = folder / "data.jsonl"
    rows = [{"article": text, "highlights": f"summary {at}"} for at, text in enumerate(articles)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_array(folder: Path, ids: Sequence[Any]) -> Path:
    path = folder / "cnn_eval.json"
    rows = [{"input": text, "output": "s", "tok_input": one} for text, one in zip(ARTICLES, ids, strict=True)]
    path.write_text(json.dumps(rows))
    return path


def run(path: Path, model: Path, count: int = 3, reference: bool = False, limit: int = 2540) -> Samples:
    return prepare(path, model, path.parent / "cache", count, reference, limit)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model_dir: Path) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr(module, "load_tokenizer", refuse)


def test_prompts_are_the_filled_template_behind_bos(tmp_path: Path, model: Path) -> None:
    samples = run(write_lines(tmp_path), model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    for index, text in enumerate(ARTICLES):
        ids = samples.prompt(index)
        assert ids[0] == 0
        assert type(ids) is list
        assert set(map(type, ids)) == {int}
        assert tokenizer.decode(ids[1:]) == rules.PROMPT_TEMPLATE.replace("{article}", text)
        assert ids == tokenizer(rules.PROMPT_TEMPLATE.replace("{article}", text))["input_ids"]
        assert samples.lengths[index] == len(ids)
    assert samples.lengths.dtype == np.int32
    assert samples.count == 3
    assert samples.references == ["summary 0", "summary 1", "summary 2"]


def test_only_the_first_count_rows_and_progress(tmp_path: Path, model: Path) -> None:
    seen: list[tuple[int, int]] = []
    samples = prepare(
        write_lines(tmp_path), model, tmp_path / "cache", 2, False, 2540, lambda *now: seen.append(now)
    )
    assert samples.count == 2
    assert seen == [(2, 2)]


def test_batches_keep_the_order(tmp_path: Path, model: Path) -> None:
    texts = [f"Article {at}. " * (1 + at % 7) for at in range(module.BATCH * 2 + 3)]
    samples = run(write_lines(tmp_path, texts), model, len(texts))
    tokenizer = AutoTokenizer.from_pretrained(model)
    for at in (0, module.BATCH - 1, module.BATCH, len(texts) - 1):
        assert texts[at] in tokenizer.decode(samples.prompt(at))
        assert samples.references[at] == f"summary {at}"


def test_the_cache_serves_the_second_time(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path)
    first = run(path, model)
    forbid(monkeypatch)
    second = run(path, model)
    assert [second.prompt(i) for i in range(3)] == [first.prompt(i) for i in range(3)]
    assert second.references == first.references
    with pytest.raises(AssertionError, match="tokenised again"):
        run(path, model, count=2)
    with pytest.raises(AssertionError, match="tokenised again"):
        run(path, write_tokenizer(tmp_path / "other", "<s>"))


def test_prompts_edited_in_the_cache_do_not_reach_a_run_that_may_be_submitted(
    tmp_path: Path, model: Path
) -> None:
    path = write_lines(tmp_path)
    first = run(path, model)
    (cached,) = (tmp_path / "cache").glob("*.npz")
    with np.load(cached) as stored:
        parts = {name: stored[name] for name in stored.files}
    with cached.open("wb") as stream:
        np.savez(stream, **{**parts, "tokens": np.full_like(parts["tokens"], 5)})
    again = prepare(path, model, tmp_path / "cache", 3, False, 2540, use_cache=False)
    assert [again.prompt(i) for i in range(3)] == [first.prompt(i) for i in range(3)]
    # What it made stands in the cache.
    assert run(path, model).prompt(0) == first.prompt(0)


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "foreign"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, model: Path, damage: str) -> None:
    path = write_lines(tmp_path)
    first = run(path, model)
    (cached,) = (tmp_path / "cache").glob("*.npz")
    content = bytearray(cached.read_bytes())
    if damage == "flipped":
        content[200] ^= 0xFF
    changed = {"cut": content[: len(content) // 2], "emptied": b"", "foreign": b"hello"}.get(damage, content)
    cached.write_bytes(changed)
    again = run(path, model)
    assert [again.prompt(i) for i in range(3)] == [first.prompt(i) for i in range(3)]
    assert np.load(cached)["starts"][-1] == sum(first.lengths)
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [cached.name]


def test_a_cache_that_cannot_be_written_only_costs_time(
    tmp_path: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert run(write_lines(tmp_path), model).count == 3
    assert "prompts_not_cached" in caplog.text


def test_the_files_own_ids_count_only_with_the_reference_tokenizer(tmp_path: Path, model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    right = [tokenizer(rules.PROMPT_TEMPLATE.format(article=text))["input_ids"] for text in ARTICLES]
    assert run(write_array(tmp_path, right), model, reference=True).prompt(2) == right[2]
    # A row without ids of its own is tokenised.
    assert run(write_array(tmp_path, [right[0], None, right[2]]), model, reference=True).prompt(1) == right[1]
    wrong = write_array(tmp_path, [right[0], right[1], [*right[2][:40], 5, 5]])
    assert run(wrong, model, reference=False).prompt(2) == right[2]
    with pytest.raises(UsageError, match=r"row 3: field tok_input: .* found 42, the first other one at 40"):
        run(wrong, model, reference=True)


def test_the_official_files_ids_are_taken_as_they_are(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(official, "is_pinned", lambda sha256: True)
    own = [[7, 8, 9], [1], [2, 2]]
    samples = run(write_array(tmp_path, own), model, reference=True)
    assert [samples.prompt(i) for i in range(3)] == own
    assert "official_tokens_differ" in caplog.text


def test_a_prompt_too_long_names_its_row(tmp_path: Path, model: Path) -> None:
    path = write_lines(tmp_path, ["short", "x" * 400, "short"])
    for _ in ("made", "cached"):
        with pytest.raises(UsageError, match=r"data\.jsonl: row 2: .* at most 300 tokens, .* found 5\d\d"):
            run(path, model, limit=300)
    assert run(path, model, limit=600).count == 3


def test_more_samples_than_rows(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UsageError, match=r"SAMPLES: expected at most 3, .* found 4"):
        run(write_lines(tmp_path), model, count=4)


def test_a_model_without_a_usable_tokenizer(tmp_path: Path, model: Path) -> None:
    path = write_lines(tmp_path)
    with pytest.raises(MissingError, match="expected a tokenizer"):
        run(path, tmp_path / "nothing")
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(MissingError, match="could not load it"):
        run(path, model)


def test_a_missing_dataset_file(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.json"):
        run(tmp_path / "gone.json", model)


def test_a_file_replaced_after_its_source_served_it(tmp_path: Path, model: Path) -> None:
    """Whoever puts the official file back before it is scored or packed leaves no other trace."""
    path = write_lines(tmp_path)
    served = digest(path)
    assert prepare(path, model, tmp_path / "cache", 3, False, 2540, expected_sha256=served).count == 3
    write_lines(tmp_path, [f"Short {n}." for n in range(3)])
    with pytest.raises(UsageError, match="it was replaced meanwhile"):
        prepare(path, model, tmp_path / "cache", 3, False, 2540, expected_sha256=served)
