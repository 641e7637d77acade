"""How a LoadGen run stands: requests waiting and running, latencies so far, the time it still takes.

Read beside the timed path from the arrays of its timeline, some times a second; each look costs a fraction of
a millisecond, however many requests there were before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from .. import rules
from ..records.schema import EventFields
from .plan import Plan
from .timeline import Timeline

# Buckets of a histogram: from 10 microseconds up, each 0.2% wider than the one before, 27 hours in the last.
LOWEST_S, GROWTH, BUCKETS = 1e-5, 1.002, 11_500
# A plan's word counts for as much as this share of all samples measured.
PLAN_WEIGHT = 0.03
Flags: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.bool_]]"
Seconds: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"


class Percentiles:
    """Percentiles of times, within 0.2%."""

    def __init__(self) -> None:
        self._counts = np.zeros(BUCKETS, np.int64)
        self.count = 0

    def add(self, seconds: Seconds) -> None:
        places = np.log(np.maximum(seconds, LOWEST_S) / LOWEST_S) / math.log(GROWTH)
        np.add.at(self._counts, np.minimum(places.astype(np.int64), BUCKETS - 1), 1)
        self.count += len(seconds)

    def ms(self, share: float) -> float | None:
        """The time that `share` of all do not exceed; None before the first."""
        if not self.count:
            return None
        place = int(np.searchsorted(np.cumsum(self._counts), math.ceil(share * self.count)))
        return float(f"{1000 * LOWEST_S * GROWTH ** (place + 1):.4g}")


@dataclass
class SoFar:
    """What has been counted of a timeline. `begun`: requests with their first token."""

    timeline: Timeline
    begun: int = 0
    ended: int = 0
    ttft: Percentiles = field(default_factory=Percentiles)
    tpot: Percentiles = field(default_factory=Percentiles)
    # Every slot below it has ended; above it, which ones were counted.
    _low: int = 0
    _begun: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))
    _ended: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))

    def look(self) -> None:
        """Count what has come since the last look."""
        timeline, low, high = self.timeline, self._low, self.timeline.count
        new = np.zeros(high - low - len(self._begun), np.bool_)
        self._begun, self._ended = np.concatenate((self._begun, new)), np.concatenate((self._ended, new))
        arrival, first, end = (
            np.array(times[low:high], np.float64)
            for times in (timeline.arrival_s, timeline.first_token_s, timeline.end_s)
        )
        begun, ended = ~np.isnan(first), ~np.isnan(end)
        told, done = begun & ~self._begun, ended & ~self._ended
        self.ttft.add((first - arrival)[told])
        tokens = np.array(timeline.answer_tokens[low:high], np.int64)
        timed = done & begun & (tokens > 1)
        self.tpot.add((end - first)[timed] / (tokens[timed] - 1))
        self.begun += int(told.sum())
        self.ended += int(done.sum())
        open_at = int(np.argmin(ended)) if not ended.all() else len(ended)
        self._low += open_at
        self._begun, self._ended = begun[open_at:], ended[open_at:]

    def fields(self, streaming: bool) -> EventFields:
        """For an event. Without first tokens nobody knows which requests still wait."""
        if not streaming:
            return EventFields(running=self.timeline.count - self.ended)
        known = EventFields(waiting=self.timeline.count - self.begun, running=self.begun - self.ended)
        for name, times in (("ttft", self.ttft), ("tpot", self.tpot)):
            for share in (50, 99):
                value = times.ms(share / 100)
                if value is not None:
                    known[f"{name}_p{share}_ms"] = value  # type: ignore[literal-required]
        return known


def eta_s(plan: Plan, elapsed_s: float, done: int, issued: int) -> float | None:
    """Seconds that the run still takes. It begins with the plan's word and ends with what was measured.

    Server's queries come by LoadGen's schedule, whatever the engine does; those that still wait then take
    longer. The other scenarios take as long as their samples.
    """
    total, planned_s = max(plan.expected_queries, issued), plan.expected_seconds
    if plan.scenario in rules.TOKEN_LATENCY_LIMITS_MS and planned_s is not None:
        behind = (total - done) * elapsed_s / done if done else 0.0
        return max(planned_s - elapsed_s, min(behind, planned_s) if elapsed_s > planned_s else 0.0)
    if planned_s is None:
        return (total - done) * elapsed_s / done if done else None
    weight = PLAN_WEIGHT * total
    each_s = (elapsed_s + weight * planned_s / total) / (done + weight)
    left_s = (total - done) * each_s
    if plan.scenario == rules.SINGLE_STREAM and plan.mode == "performance":
        left_s = max(left_s, plan.min_duration_ms / 1000 - elapsed_s)
    return left_s
