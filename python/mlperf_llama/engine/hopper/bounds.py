"""How far the self-check's logits may differ (self_check.py), and what is said of one. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import BrokeError
from ...records.schema import SelfCheck
from . import RANDOM_EXTENSION, REVISION
from .compat import OWN_PATH

# Of all compared tokens' differences the mean, and any single one. E4M3 rounds a value by 2.5% (root mean
# square), and queries, keys and values are rounded where vLLM's path rounds and the kernels need not: a few
# hundredths are expected. Logits that have nothing to do with each other differ by 1.41.
MEAN_BOUND, LARGEST_BOUND = 0.15, 0.5


def record(extension: str, figures: Mapping[str, float]) -> SelfCheck:
    """Figures of self_check.py, judged."""
    mean, largest = float(figures["mean"]), float(figures["largest"])
    return SelfCheck(
        extension=extension,
        revision=REVISION,
        passed=mean <= MEAN_BOUND and largest <= LARGEST_BOUND,
        mean=round(mean, 5),
        mean_bound=MEAN_BOUND,
        largest=round(largest, 5),
        largest_bound=LARGEST_BOUND,
        prompts=int(figures["prompts"]),
        steps=int(figures["steps"]),
        compared=int(figures["compared"]),
        seconds=round(float(figures["seconds"]), 2),
    )


def text(found: SelfCheck) -> str:
    """A line on a self-check's figures."""
    return (
        f"revision {found.revision}, logits differ from vLLM's own path by {found.mean:.3g} standard "
        f"deviations on average (at most {found.mean_bound:g}) and {found.largest:.3g} for a single token "
        f"(at most {found.largest_bound:g}), {found.prompts} prompts"
    )


def within(found: SelfCheck) -> bool:
    """Whether it passed by its own bounds and by these."""
    mean_bound, largest_bound = min(found.mean_bound, MEAN_BOUND), min(found.largest_bound, LARGEST_BOUND)
    return found.passed and found.mean <= mean_bound and found.largest <= largest_bound


def refuse_failed(found: SelfCheck | None) -> None:
    """BrokeError where a self-check was not passed. Made-up weights run all the same, and the verdict fails:
    they are for speed alone, and rounding may grow in them as in no trained model."""
    if found is None or found.passed or found.extension == RANDOM_EXTENSION:
        return
    raise BrokeError(f"the kernels for Hopper are refused: {text(found)}; {OWN_PATH}")
