"""What speed a run asks LoadGen for: one rule for plan, run and tune.

The user's setting, else what tuning found for runs at least as long, else a share of the engine's Offline
speed: what the warm-up measures, which a plan can only estimate, or what tuning's own short runs measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .. import rules
from ..engine.tuned import NONE, Tuned

USER, TUNED, REPEATED = "your setting", "tuned", "a run that was too short"
WARM_UP, ESTIMATE, SHORT_RUN = (
    "measured by the warm-up",
    "measured by the warm-up; here an estimate",
    "a short Offline run",
)


@dataclass(frozen=True)
class Choice:
    """Queries per second, or SingleStream's milliseconds, and where they come from; None where unknown."""

    value: float | None
    source: str


@dataclass(frozen=True)
class OfflineSpeed:
    """Samples per second of the whole engine; `source` is WARM_UP, ESTIMATE or SHORT_RUN."""

    samples_per_s: float
    source: str


@dataclass(frozen=True)
class _Rule:
    """Shares of an Offline speed by scenario, and the digits its precision is worth."""

    shares: Mapping[str, float]
    digits: int


# A full Offline run has no ramp and is faster than what was measured; too high a guess only lengthens it.
# In Server and Interactive a run takes a load that any engine carries; a search begins near its answer.
_WARM_UP_RULE = _Rule({rules.OFFLINE: 1.25, rules.SERVER: 0.6, rules.INTERACTIVE: 0.6}, 3)
_RULES = {
    WARM_UP: _WARM_UP_RULE,
    ESTIMATE: _WARM_UP_RULE,
    SHORT_RUN: _Rule({rules.OFFLINE: 1.1, rules.SERVER: 0.75, rules.INTERACTIVE: 0.6}, 4),
}
_LEAST = 1e-3


def choose_qps(
    scenario: str,
    duration_s: float,
    user: float | None,
    tuned: Tuned = NONE,
    offline: OfflineSpeed | None = None,
    repeated: float | None = None,
) -> Choice:
    """`repeated`: what `repeat_qps` gave after a run that ended too soon. `offline`: None if not measured."""
    if user:
        return Choice(user, USER)
    if repeated:
        return Choice(repeated, REPEATED)
    if known := tuned.target_qps(scenario, duration_s):
        return Choice(known, TUNED)
    if offline is None:
        return Choice(None, WARM_UP)
    rule = _RULES[offline.source]
    return Choice(_rounded(rule.shares[scenario] * offline.samples_per_s, rule.digits), offline.source)


def over_expected(scenario: str, choice: Choice) -> float:
    """What the rate of an Offline run has over the speed that it was guessed from, which decides its time."""
    return _WARM_UP_RULE.shares[scenario] if (scenario, choice.source) == (rules.OFFLINE, ESTIMATE) else 1.0


def repeat_qps(samples_per_s: float) -> float:
    """The guess for an Offline run again, of which the first, at `samples_per_s`, was too short."""
    return _rounded(_WARM_UP_RULE.shares[rules.OFFLINE] * samples_per_s, _WARM_UP_RULE.digits)


def offline_speed_of(tuned_qps: float) -> float:
    """The Offline speed that tuning measured, of the TARGET_QPS that it kept."""
    return tuned_qps / _RULES[SHORT_RUN].shares[rules.OFFLINE]


def choose_latency_ms(user: float | None, tuned: Tuned = NONE, measured_ms: float | None = None) -> Choice:
    """What SingleStream expects of a query."""
    if user:
        return Choice(user, USER)
    if known := tuned.expected_latency_ms(rules.SINGLE_STREAM):
        return Choice(known, TUNED)
    return Choice(None if measured_ms is None else _rounded(measured_ms, _WARM_UP_RULE.digits), WARM_UP)


def _rounded(value: float, digits: int) -> float:
    return float(f"{max(value, _LEAST):.{digits}g}")
