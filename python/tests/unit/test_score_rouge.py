"""Our ROUGE against rouge_score and NLTK called directly, to the last bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import score_support as support

from mlperf_llama import rules
from mlperf_llama.errors import BrokeError, Interrupted
from mlperf_llama.score import rouge

Pairs = list[tuple[str, str]]


def ours(pairs: Pairs, workers: int | None) -> list[rouge.PairScore]:
    predictions, references = zip(*pairs, strict=True)
    return rouge.score_pairs(predictions, references, workers, support.sentence_model())


def assert_equal_to_official(pairs: Pairs, workers: int | None) -> None:
    official = support.official_f_measures(pairs)
    found = ours(pairs, workers)
    for at, key in enumerate(rules.ROUGE_KEYS):
        assert [pair.f_measures[at] for pair in found] == official[key]
    whole = support.official_result(pairs)
    assert sum(pair.characters for pair in found) == whole["gen_len"]


@pytest.mark.parametrize("workers", [1, 2])
def test_real_articles_score_as_the_official_recipe(workers: int) -> None:
    assert_equal_to_official(support.real_pairs(), workers)


@pytest.mark.parametrize("seed", range(4))
def test_made_up_text_scores_as_the_official_recipe(seed: int) -> None:
    assert_equal_to_official(support.made_up_pairs(200, seed), 1)


def test_the_number_of_workers_changes_nothing() -> None:
    pairs = support.made_up_pairs(300, 5)
    one = ours(pairs, 1)
    assert ours(pairs, 2) == one
    assert ours(pairs, 3) == one
    assert ours(pairs, None) == one


def test_a_pair_scores_the_same_in_any_company() -> None:
    pairs = support.made_up_pairs(120, 6)
    order = random.Random(6).sample(range(len(pairs)), len(pairs))
    shuffled = ours([pairs[at] for at in order], 1)
    assert [shuffled[order.index(at)] for at in range(len(pairs))] == ours(pairs, 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_counts_up_to_the_total(workers: int) -> None:
    pairs, seen = support.made_up_pairs(150, 7), []
    predictions, references = zip(*pairs, strict=True)
    rouge.score_pairs(
        predictions,
        references,
        workers,
        support.sentence_model(),
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(64, 150), (128, 150), (150, 150)]


def test_an_interrupt_drops_the_chunks_that_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring the rest before giving in would take minutes on a full run."""
    notes = tmp_path / "notes"
    monkeypatch.setenv("TEST_SCORE_NOTES", str(notes))
    monkeypatch.setattr(rouge, "score_chunk", slow_chunk)

    def stop(done: int, total: int) -> None:
        raise Interrupted(signal.SIGTERM)

    texts = ["a"] * (100 * rouge.CHUNK_PAIRS)
    with pytest.raises(Interrupted):
        rouge.score_pairs(texts, texts, 2, support.sentence_model(), stop)
    assert 1 <= len(notes.read_text()) < 30


def slow_chunk(pairs: Pairs) -> list[rouge.PairScore]:
    with Path(os.environ["TEST_SCORE_NOTES"]).open("a") as notes:
        notes.write("x")
    time.sleep(0.2)
    return [rouge.PairScore((0.0,) * 4, 0)] * len(pairs)


def test_a_killed_worker_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rouge, "score_chunk", killed_worker)
    pairs = support.made_up_pairs(200, 9)
    with pytest.raises(BrokeError, match="SCORE_WORKERS"):
        ours(pairs, 2)


def killed_worker(pairs: Pairs) -> list[rouge.PairScore]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, signal, sys\n"
        "from multiprocessing import active_children\n"
        "from pathlib import Path\n"
        "from mlperf_llama.score import rouge\n"
        "def stop(done, total):\n"
        "    print(*[c.pid for c in active_children()], flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    rouge.score_pairs(['a b. c'] * 500, ['a'] * 500, 2, Path(sys.argv[1]), stop)\n"
    )
    package = Path(rouge.__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, script, support.sentence_model()],
        env={**os.environ, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    workers = [int(pid) for pid in ended.stdout.split()]
    assert workers, ended.stderr
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_each_word_is_stemmed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stemmed: list[str] = []
    plain: Callable[[rouge.PorterStemmer, str], str] = rouge.PorterStemmer.stem

    def counted(self: rouge.PorterStemmer, word: str) -> str:
        stemmed.append(word)
        return plain(self, word)

    monkeypatch.setattr(rouge.PorterStemmer, "stem", counted)
    words = rouge.StemmedWords()
    first = words.tokenize("Stories about running, and STORIES about runners")
    assert words.tokenize("Stories about running, and STORIES about runners") == first
    assert first == ["stori", "about", "run", "and", "stori", "about", "runner"]
    assert sorted(stemmed) == ["about", "runners", "running", "stories"]


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
    found = ours(pairs, 1)
    for at, key in enumerate(rules.ROUGE_KEYS):
        assert [pair.f_measures[at] for pair in found] == theirs[key]
        assert np.mean(theirs[key]) == np.mean([pair.f_measures[at] for pair in found])
