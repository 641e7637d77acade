"""Scoring a run folder: from its files alone, equal to the official recipe, checked first."""

from __future__ import annotations

import ast
import hashlib
import json
import random
import re
import socket
import statistics
from pathlib import Path
from typing import Any

import pytest
import run_folders as folders
import score_support as support

from mlperf_llama import config, rules, score
from mlperf_llama.errors import BrokeError, MissingError, UsageError
from mlperf_llama.loadgen import logs
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Provenance, Provided
from mlperf_llama.score import accuracy_text, processes

# mlcommons/inference tools/submission/submission_checker/constants.py, ACC_PATTERN.
CHECKER = {key: rf".*'{key}':\s+'?([\d.]+)'?.*" for key in rules.ROUGE_KEYS}
CHECKER |= {"gen_len": r".*'gen_len':\s([\d.]+).*", "gen_num": r".*'gen_num':\s([\d.]+).*"}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / "nltk_data").symlink_to(support.sentence_model())
    return folder


def make_run(
    tmp_path: Path,
    cache: Path,
    pairs: list[tuple[str, str]],
    samples: int | None = None,
    source: str = "huggingface",
) -> tuple[RunFolder, list[tuple[str, str]]]:
    """A finished accuracy run, and its pairs in the log's order, as the tokenizer decodes them."""
    tokenizer = support.make_tokenizer(tmp_path / "model", [text for pair in pairs for text in pair], False)
    rows = [{"article": f"article {i}", "highlights": reference} for i, (_, reference) in enumerate(pairs)]
    dataset = tmp_path / "rows.jsonl"
    dataset.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = RunFolder(tmp_path / "run")
    accuracy = run.log_dir(rules.OFFLINE, "accuracy")
    accuracy.mkdir(parents=True)
    folders.write_json(run, "config.json", config.load({"CACHE_DIR": str(cache)}, {}).to_json())
    folders.write_json(
        run,
        "provenance.json",
        {
            "samples": samples or len(pairs),
            "dataset": {
                "source": source,
                "path": str(dataset),
                "sha256": hashlib.sha256(dataset.read_bytes()).hexdigest(),
            },
            "model": {"source": "stand-in", "path": str(tmp_path / "model")},
        },
    )
    order = random.Random(4).sample(range(samples or len(pairs)), samples or len(pairs))
    ids = {i: tokenizer(pairs[i][0])["input_ids"] for i in order}
    support.write_log(accuracy / logs.ACCURACY, [support.entry(i, ids[i]) for i in order])
    return run, [(tokenizer.decode(ids[i], skip_special_tokens=True), pairs[i][1]) for i in order]


def filled(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Rows as a dataset has them: with a reference."""
    return [(prediction, reference.strip() or "Nothing.") for prediction, reference in pairs]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_numbers_are_the_official_ones(tmp_path: Path, cache: Path, workers: int) -> None:
    run, pairs = make_run(tmp_path, cache, filled(support.made_up_pairs(150, 21)))
    seen: list[tuple[int, int]] = []
    result = score.score_run(run, rules.OFFLINE, workers, lambda *at: seen.append(at))
    official = support.official_result(pairs)
    assert {key: f"{getattr(result, key)}" for key in rules.ROUGE_KEYS} == {
        k: official[k] for k in rules.ROUGE_KEYS
    }
    assert (result.gen_len, result.gen_num) == (official["gen_len"], 150)
    assert seen[-1] == (150, 150)
    assert result.word_overlap is None
    each = [pair.f_measures[0] for pair in processes.score_pairs(*zip(*pairs, strict=True), workers=1)]
    assert (result.standard_errors or {})["rouge1"] == pytest.approx(
        100 * statistics.stdev(each) / 150**0.5, abs=1e-4
    )


@pytest.mark.slow
def test_the_real_articles_through_the_whole_path(tmp_path: Path, cache: Path) -> None:
    run, pairs = make_run(tmp_path, cache, support.real_pairs())
    score.score_run(run, rules.OFFLINE, 2)
    line = (run.log_dir(rules.OFFLINE, "accuracy") / accuracy_text.NAME).read_text().splitlines()[0]
    assert line == str(support.official_result(pairs))


@pytest.mark.slow
def test_accuracy_txt_is_what_the_checker_reads(tmp_path: Path, cache: Path) -> None:
    run, pairs = make_run(tmp_path, cache, filled(support.made_up_pairs(40, 22)))
    score.score_run(run, rules.OFFLINE, 1)
    accuracy = run.log_dir(rules.OFFLINE, "accuracy")
    text = (accuracy / accuracy_text.NAME).read_text()
    first, second = text.splitlines()
    official = support.official_result(pairs)
    assert ast.literal_eval(first) == official
    for key, pattern in CHECKER.items():
        match = re.match(pattern, first)
        assert match is not None
        assert match.group(1) == str(official[key])
    sha256 = hashlib.sha256((accuracy / logs.ACCURACY).read_bytes()).hexdigest()
    assert second == f"hash={sha256}"


@pytest.mark.slow
def test_a_subset_is_scored_against_its_own_rows(tmp_path: Path, cache: Path) -> None:
    run, pairs = make_run(tmp_path, cache, filled(support.made_up_pairs(60, 23)), samples=24)
    result = score.score_run(run, rules.OFFLINE, 1)
    assert result.gen_num == 24
    assert f"{result.rougeLsum}" == support.official_result(pairs)["rougeLsum"]
    assert result.passed is None
    assert {target.met for target in (result.targets or {}).values()} == {None}


@pytest.mark.slow
def test_synthetic_rows_also_get_the_quick_overlap(tmp_path: Path, cache: Path) -> None:
    run, _ = make_run(tmp_path, cache, filled(support.made_up_pairs(20, 24)), source="synthetic")
    quick = score.score_run(run, rules.OFFLINE, 1).word_overlap
    assert quick is not None
    assert 0 < quick.unigram_f1 < 100
    assert "not ROUGE" in quick.label


@pytest.mark.slow
def test_scoring_again_needs_no_network(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = make_run(tmp_path, cache, filled(support.made_up_pairs(10, 25)))

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network may not be used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    assert score.score_run(run, rules.OFFLINE, 1) == score.score_run(run, rules.OFFLINE, 1)


def test_a_sample_without_a_response_is_an_error(tmp_path: Path, cache: Path) -> None:
    run, _ = make_run(tmp_path, cache, filled(support.made_up_pairs(10, 26)))
    log = run.log_dir(rules.OFFLINE, "accuracy") / logs.ACCURACY
    kept = [entry for entry in json.loads(log.read_text()) if entry["qsl_idx"] not in (3, 7)]
    support.write_log(log, kept)
    with pytest.raises(BrokeError, match="all 10 samples, found 8; the first missing is sample 3"):
        score.score_run(run, rules.OFFLINE, 1)
    assert not (log.parent / accuracy_text.NAME).exists()


def test_a_run_without_its_parts(tmp_path: Path, cache: Path) -> None:
    run, _ = make_run(tmp_path, cache, filled(support.made_up_pairs(10, 27)))
    with pytest.raises(MissingError, match="expected an accuracy log, found none"):
        score.score_run(run, rules.SERVER, 1)
    for samples in (0, 11, None):
        run.update(Provenance, samples=samples)
        with pytest.raises(UsageError, match=r"expected samples from 1 to 10.*found"):
            score.score_run(run, rules.OFFLINE, 1)
    run.update(Provenance, samples=10, model=Provided())
    with pytest.raises(UsageError, match="expected the model that served this run"):
        score.score_run(run, rules.OFFLINE, 1)


def test_another_dataset_than_the_runs_is_refused(tmp_path: Path, cache: Path) -> None:
    run, _ = make_run(tmp_path, cache, filled(support.made_up_pairs(10, 28)))
    with (tmp_path / "rows.jsonl").open("a") as rows:
        rows.write('{"article": "a", "highlights": "b"}\n')
    with pytest.raises(UsageError, match="expected the file that the run was made on"):
        score.score_run(run, rules.OFFLINE, 1)
