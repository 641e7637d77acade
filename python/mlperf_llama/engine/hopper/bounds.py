"""How far the self-check's logits may differ (self_check.py), and what is said of one. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import BrokeError
from ...records.schema import SelfCheck
from . import RANDOM_EXTENSION, REVISION
from .compat import OWN_PATH

# How many times vLLM's own error the extension's may be, and what it may have in any case.
MEAN_SHARE, LARGEST_SHARE = 1.0, 1.5
MEAN_FLOOR, LARGEST_FLOOR = 0.02, 0.1
# However far vLLM's own is off.
MEAN_MOST, LARGEST_MOST = 0.5, 2.0


def mean_bound(own: float) -> float:
    return min(MEAN_MOST, MEAN_SHARE * own + MEAN_FLOOR)


def largest_bound(own: float) -> float:
    return min(LARGEST_MOST, LARGEST_SHARE * own + LARGEST_FLOOR)


def record(extension: str, figures: Mapping[str, float]) -> SelfCheck:
    """Figures of self_check.py, judged."""
    mean, largest = float(figures["mean"]), float(figures["largest"])
    own_mean, own_largest = float(figures["own_mean"]), float(figures["own_largest"])
    return SelfCheck(
        extension=extension,
        revision=REVISION,
        passed=mean <= mean_bound(own_mean) and largest <= largest_bound(own_largest),
        mean=round(mean, 5),
        mean_bound=round(mean_bound(own_mean), 5),
        largest=round(largest, 5),
        largest_bound=round(largest_bound(own_largest), 5),
        own_mean=round(own_mean, 5),
        own_largest=round(own_largest, 5),
        prompts=int(figures["prompts"]),
        steps=int(figures["steps"]),
        compared=int(figures["compared"]),
        seconds=round(float(figures["seconds"]), 2),
    )


def text(check: SelfCheck) -> str:
    """A line on a self-check's figures."""
    return (
        f"revision {check.revision}, logits are off by {check.mean:.3g} standard deviations on average "
        f"(at most {check.mean_bound:.3g}; vLLM's own {check.own_mean:.3g}), by {check.largest:.3g} for "
        f"a single token (at most {check.largest_bound:.3g}; vLLM's own {check.own_largest:.3g}), "
        f"{check.prompts} prompts"
    )


def within(check: SelfCheck) -> bool:
    """Whether it passed by what is recorded, and by these bounds. Records are rounded."""
    rounding = 1e-5
    return (
        check.passed
        and check.mean <= min(check.mean_bound, mean_bound(check.own_mean)) + rounding
        and check.largest <= min(check.largest_bound, largest_bound(check.own_largest)) + rounding
    )


def refuse_failed(check: SelfCheck | None) -> None:
    """BrokeError where a self-check was not passed. Made-up weights run all the same, and the verdict fails:
    they are for speed alone, and rounding may grow in them as in no trained model."""
    if check is None or check.passed or check.extension == RANDOM_EXTENSION:
        return
    raise BrokeError(f"the kernels for Hopper are refused: {text(check)}; {OWN_PATH}")
