"""Our ROUGE against rouge_score and NLTK called directly, to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import score_support as support

from mlperf_llama import rules
from mlperf_llama.score import processes, rouge

Pairs = list[tuple[str, str]]


def ours(pairs: Pairs, workers: int | None) -> list[rouge.PairScore]:
    predictions, references = zip(*pairs, strict=True)
    return processes.score_pairs(predictions, references, workers, support.sentence_model())


def assert_equal_to_official(pairs: Pairs, workers: int | None) -> None:
    official = support.official_f_measures(pairs)
    scores = ours(pairs, workers)
    for at, key in enumerate(rules.ROUGE_KEYS):
        assert [pair.f_measures[at] for pair in scores] == official[key]
    whole = support.official_result(pairs)
    assert sum(pair.characters for pair in scores) == whole["gen_len"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_real_articles_score_as_the_official_recipe(workers: int) -> None:
    assert_equal_to_official(support.real_pairs(), workers)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 4))])
def test_made_up_text_scores_as_the_official_recipe(seed: int) -> None:
    assert_equal_to_official(support.made_up_pairs(200, seed), 1)


def test_each_word_is_stemmed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stemmed: list[str] = []
    plain: Callable[[rouge.PorterStemmer, str], str] = rouge.PorterStemmer.stem

    def counted(self: rouge.PorterStemmer, word: str) -> str:
        stemmed.append(word)
        return plain(self, word)

    monkeypatch.setattr(rouge.PorterStemmer, "stem", counted)
    stems = rouge.RememberedStems()
    text = "Stories about running, and STORIES about runners"
    assert (
        rouge._words_by_line(f"{text}\n{text}", stems)
        == [["stori", "about", "run", "and", "stori", "about", "runner"]] * 2
    )
    assert sorted(stemmed) == ["about", "runners", "running", "stories"]


@pytest.mark.slow
def test_equal_to_the_evaluate_package(tmp_path: Path) -> None:
    """ROUGE_SCRIPT may name a local copy of evaluate's metrics/rouge."""
    pairs = support.made_up_pairs(60, 10)
    script = tmp_path / "with_evaluate.py"
    script.write_text(
        "import sys, json, evaluate\n"
        "metric = evaluate.load(sys.argv[1])\n"
        "pairs = json.load(sys.stdin)\n"
        "result = metric.compute(predictions=[p for p, _ in pairs], references=[r for _, r in pairs],\n"
        "                        use_stemmer=True, use_aggregator=False)\n"
        "print(json.dumps({k: [float(x) for x in v] for k, v in result.items()}))\n"
    )
    support.sentence_model()
    joined = [(rouge.sentences(prediction), rouge.sentences(reference)) for prediction, reference in pairs]
    try:
        ended = subprocess.run(
            [sys.executable, script, os.environ.get("ROUGE_SCRIPT", "rouge")],
            env={**os.environ, "HF_EVALUATE_CACHE": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path)},
            input=json.dumps(joined),
            capture_output=True,
            text=True,
            timeout=90,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("evaluate.load('rouge') gave no answer in 90 s")
    if ended.returncode:
        pytest.skip(f"evaluate's rouge script cannot be had: {ended.stderr.strip().splitlines()[-1]}")
    theirs = json.loads(ended.stdout.splitlines()[-1])
    scores = ours(pairs, 1)
    for at, key in enumerate(rules.ROUGE_KEYS):
        assert [pair.f_measures[at] for pair in scores] == theirs[key]
        assert np.mean(theirs[key]) == np.mean([pair.f_measures[at] for pair in scores])
