"""Which numbers of requests at once a curve is measured at, by the rules' regions.

Sections are those of mlcommons/endpoints_policies, endpoints_rules.md, of version 1.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .. import rules
from ..errors import UsageError

# 5.3: four regions with a point each, three of the submitter's choice, and Offline.
SPREAD = 6
# 5.4: the first region is the same for all.
LOWEST_REGION_END = 32
ULTRA_LOW, LOW, MEDIUM, HIGH = "low_latency", "low_concurrency", "med_concurrency", "high_concurrency"
REGIONS = (ULTRA_LOW, LOW, MEDIUM, HIGH)
# 6.2, in seconds of the steady state.
DURATION_S = {ULTRA_LOW: 600.0, LOW: 1200.0, MEDIUM: 1200.0, HIGH: 1200.0}
# 4.4: the steady state spans four passes over the dataset at least; one more for its beginning and end.
PASSES = 5
# The performance set: the articles of LoadGen's datacenter benchmark.
DATASET = rules.SAMPLE_COUNT[rules.DATACENTER]
OFFLINE = "offline"


@dataclass(frozen=True)
class Point:
    """`concurrency`: requests at once, in Offline those of one pass. `accuracy`: one pass is scored, too.
    `samples`: that are sent, whole passes. `seconds`: that it will take, None where the speed is unknown."""

    name: str
    concurrency: int
    region: str
    samples: int
    min_duration_s: float
    accuracy: bool
    seconds: float | None = None


@dataclass(frozen=True)
class Curve:
    points: tuple[Point, ...]

    @property
    def hours(self) -> float | None:
        seconds = [point.seconds for point in self.points]
        return None if None in seconds else sum(filter(None, seconds)) / 3600


def boundaries(lowest: int, highest: int) -> dict[str, tuple[int, int]]:
    """5.5: first and last concurrency of each region, by thirds of log2. UsageError: there are no regions."""
    if not 1 <= lowest <= LOWEST_REGION_END < highest:
        raise UsageError(
            f"CONCURRENCY: expected the lowest from 1 to {LOWEST_REGION_END} and the highest above "
            f"{LOWEST_REGION_END}, found {lowest}-{highest}"
        )
    third = math.log2(highest - lowest) / 3
    low_end, medium_end = round(lowest + 2**third), round(lowest + 2 ** (2 * third))
    return {
        ULTRA_LOW: (1, lowest),
        LOW: (lowest + 1, low_end),
        MEDIUM: (low_end + 1, medium_end),
        HIGH: (medium_end + 1, highest),
    }


def region_of(concurrency: int, lowest: int, highest: int) -> str:
    of = boundaries(lowest, highest)
    return next(name for name, (first, last) in of.items() if first <= concurrency <= last)


def levels(lowest: int, highest: int) -> list[int]:
    """The lowest, and six that halve each region's log2 range; the last is the highest."""
    boundaries(lowest, highest)
    if highest - lowest < SPREAD:
        raise UsageError(f"CONCURRENCY: expected {SPREAD} numbers above the lowest, found {lowest}-{highest}")
    span = math.log2(highest - lowest)
    others = {round(lowest + 2 ** (span * step / SPREAD)) for step in range(1, SPREAD + 1)}
    free = iter(sorted(set(range(lowest + 1, highest)) - others, reverse=True))
    while len(others) < SPREAD:
        others.add(next(free))
    return [lowest, *sorted(others)]
