"""The accuracy gate: 99% of the reference's ROUGE, its length and its number of samples."""

from __future__ import annotations

from collections.abc import Mapping

from .. import rules
from ..records.schema import Accuracy, Target

KEYS = (*rules.ROUGE_KEYS, "gen_len", "gen_num")


def values(scores: Accuracy) -> dict[str, float | None]:
    """The scores that the gate looks at, by name."""
    return {key: getattr(scores, key) for key in KEYS}


def targets(scores: Mapping[str, float | None], category: str, full: bool) -> dict[str, Target]:
    """Each score's bounds, and whether it is within them: None short of the full set."""
    return {
        key: Target(low, high, _within(scores.get(key), low, high) if full else None)
        for key, (low, high) in _bounds(category).items()
    }


def passed(targets: Mapping[str, Target]) -> bool | None:
    """Whether every target is met; None short of the full set."""
    met = [target.met for target in targets.values()]
    return None if None in met else all(met)


def _bounds(category: str) -> dict[str, tuple[float, float | None]]:
    """The lowest and the highest accepted value, as the official checker has them."""
    reference = rules.REFERENCE_SCORES[category]
    low, high = rules.GEN_LEN_RANGE
    return {
        **{key: (reference[key] * rules.ACCURACY_TIER, None) for key in rules.ROUGE_KEYS},
        "gen_len": (reference["gen_len"] * low, reference["gen_len"] * high),
        "gen_num": (reference["gen_num"], reference["gen_num"]),
    }


def _within(value: float | None, low: float, high: float | None) -> bool:
    return value is not None and value >= low and (high is None or value <= high)
