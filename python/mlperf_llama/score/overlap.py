"""A quick look at synthetic runs: how many words of the reference came back.

Not ROUGE and comparable to no target: words as written but for case, no stemming, no order.
Made-up articles have no official score, so a second's answer is enough there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

LABEL = "word overlap: unigram F1 without stemming, x 100; not ROUGE, not an MLPerf score"
WORD = re.compile(r"[a-z0-9]+")


def overlap(predictions: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """The mean unigram F1 over all pairs, x 100, with its label."""
    found = [unigram_f1(one, other) for one, other in zip(predictions, references, strict=True)]
    return {"label": LABEL, "unigram_f1": round(100 * sum(found) / len(found), 4) if found else None}


def unigram_f1(prediction: str, reference: str) -> float:
    """2 x shared / (words of both), each word counted as often as both have it; 0 to 1."""
    ours, theirs = (Counter(WORD.findall(text.lower())) for text in (prediction, reference))
    total = ours.total() + theirs.total()
    return 2 * (ours & theirs).total() / total if total else 0.0
