"""A quick look at synthetic runs: how many words of the reference came back.

Not ROUGE and comparable to no target: words as written but for case, no stemming, no order.
Made-up articles have no official score, so a second's work is enough there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from ..records.schema import WordOverlap

LABEL = "word overlap: unigram F1 without stemming, x 100; not ROUGE, not an MLPerf score"
WORD = re.compile(r"[a-z0-9]+")


def overlap(predictions: Sequence[str], references: Sequence[str]) -> WordOverlap | None:
    """The mean unigram F1 over all pairs, x 100, with its label; None where there is no pair."""
    scores = [unigram_f1(*pair) for pair in zip(predictions, references, strict=True)]
    return WordOverlap(LABEL, round(100 * sum(scores) / len(scores), 4)) if scores else None


def unigram_f1(prediction: str, reference: str) -> float:
    """2 x shared / (words of both), each word counted as often as both have it; 0 to 1."""
    predicted, expected = (Counter(WORD.findall(text.lower())) for text in (prediction, reference))
    total = predicted.total() + expected.total()
    return 2 * (predicted & expected).total() / total if total else 0.0
