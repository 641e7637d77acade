"""The quick word overlap, against values worked out by hand."""

from __future__ import annotations

import time

import pytest
import score_support as support

from mlperf_llama.records.schema import WordOverlap
from mlperf_llama.score.overlap import LABEL, overlap, unigram_f1


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("the cat sat", "The cat sat.", 1.0),
        ("the the the cat", "the cat", 2 * 2 / 6),
        ("running", "run", 0.0),
        ("", "a word", 0.0),
        ("", "", 0.0),
        ("one two", "two three four", 2 * 1 / 5),
    ],
)
def test_unigram_f1(prediction: str, reference: str, expected: float) -> None:
    assert unigram_f1(prediction, reference) == pytest.approx(expected, abs=1e-15)


def test_the_mean_comes_with_its_label() -> None:
    assert overlap(["one two", "a"], ["one two", "b"]) == WordOverlap(LABEL, 50.0)
    assert "not ROUGE" in LABEL


def test_nothing_scored_is_null_not_zero() -> None:
    assert overlap([], []) is None


def test_a_full_set_takes_seconds() -> None:
    """13,368 pairs of realistic length; generous, as the machine may be busy."""
    pairs = support.made_up_pairs(668, 1) * 20
    predictions, references = zip(*pairs, strict=True)
    started = time.process_time()
    overlap(predictions, references)
    assert time.process_time() - started < 10
