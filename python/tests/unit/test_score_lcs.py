"""Our common subsequences against rouge_score's table, the picked one among equals included."""

from __future__ import annotations

import random

import pytest
from rouge_score import rouge_scorer

from mlperf_llama.score import lcs


def words(rng: random.Random, vocabulary: int, longest: int) -> list[str]:
    return [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randint(0, longest))]


def check(expected: list[str], predicted: list[str]) -> None:
    table = rouge_scorer._lcs_table(expected, predicted)
    assert lcs.length(expected, predicted) == table[-1][-1]
    picked = lcs.positions(expected, lcs.masks(expected), predicted)
    assert sorted(picked) == rouge_scorer.lcs_ind(expected, predicted)


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 5, 20, 200])
def test_random_words(vocabulary: int) -> None:
    """Few distinct words make many subsequences of the same length to choose among."""
    rng = random.Random(vocabulary)
    for _ in range(400):
        check(words(rng, vocabulary, 40), words(rng, vocabulary, 40))


def test_every_short_pair() -> None:
    sequences: list[list[str]] = [[]]
    for size in range(1, 5):
        sequences += [list(f"{number:0{size}b}") for number in range(2**size)]
    for expected in sequences:
        for predicted in sequences:
            check(expected, predicted)


def test_longer_than_a_machine_word() -> None:
    rng = random.Random(1)
    for longest in (64, 65, 128, 300):
        for vocabulary in (2, 30):
            check(words(rng, vocabulary, longest) or ["w0"], words(rng, vocabulary, longest))
            check(["w0", *words(rng, vocabulary, longest)] * 2, ["w0"] * longest)


def test_columns_mark_where_the_table_grows() -> None:
    rng = random.Random(2)
    expected, predicted = words(rng, 4, 30) or ["w0"], words(rng, 4, 30) or ["w0"]
    table = rouge_scorer._lcs_table(expected, predicted)
    for at, column in enumerate(lcs.columns(lcs.masks(expected), len(expected), predicted), 1):
        grows = [table[row + 1][at] > table[row][at] for row in range(len(expected))]
        assert [not column >> row & 1 for row in range(len(expected))] == grows
