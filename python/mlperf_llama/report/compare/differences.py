"""How far two results are apart in one figure, and what the repeats say of their noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .sides import FIGURES, Group

# A difference of two means is within this many standard errors in 95 of 100 cases without any cause.
ERRORS = 2.0
# Speeds this close are called equal.
EQUAL = 0.0005


@dataclass(frozen=True)
class Difference:
    """One figure of both, one value per repeat. Shares are fractions: 0.01 is 1%."""

    key: str
    a: tuple[float, ...]
    b: tuple[float, ...]

    @property
    def means(self) -> tuple[float, float]:
        return statistics.fmean(self.a), statistics.fmean(self.b)

    @property
    def change(self) -> float | None:
        """B over A, less one; None where A is zero."""
        first, second = self.means
        return second / first - 1 if first else None

    @property
    def noise(self) -> float | None:
        """What the means would differ by from repeat to repeat alone, as a share of A's mean, in 95 of 100
        cases; None without repeats."""
        squares, freedom = 0.0, 0
        for values in (self.a, self.b):
            if len(values) > 1:
                squares += statistics.variance(values) * (len(values) - 1)
                freedom += len(values) - 1
        first = self.means[0]
        if not freedom or not first:
            return None
        error = math.sqrt(squares / freedom * (1 / len(self.a) + 1 / len(self.b)))
        return ERRORS * error / abs(first)

    @property
    def beyond(self) -> bool | None:
        """Is the difference more than noise? None where nothing tells."""
        if self.noise is None or self.change is None:
            return None
        return abs(self.change) > self.noise

    @property
    def unit(self) -> str:
        return FIGURES[self.key][0]


def difference(a: Group, b: Group, scenario: str, key: str) -> Difference | None:
    """One of FIGURES in both; None where one of them has it not."""
    first, second = _values(a, scenario, key), _values(b, scenario, key)
    return Difference(key, first, second) if first and second else None


def _values(group: Group, scenario: str, key: str) -> tuple[float, ...]:
    values = (measured.figure(key) for measured in group.measured(scenario))
    return tuple(value for value in values if value is not None)


def mean_of(group: Group, scenario: str, key: str) -> float | None:
    """The mean of a figure over the repeats that have it."""
    values = _values(group, scenario, key)
    return statistics.fmean(values) if values else None


def shared_scenarios(a: Group, b: Group) -> list[str]:
    return [name for name in a.first.scenarios if name in b.first.scenarios]


def every_difference(a: Group, b: Group, scenario: str) -> list[Difference]:
    """All figures that both have."""
    listed = (difference(a, b, scenario, key) for key in FIGURES)
    return [d for d in listed if d is not None]


def one_value(values: Sequence[float | None]) -> float | None:
    """The value on which all repeats agree; None where they differ or one has none."""
    different = set(values)
    return values[0] if len(different) == 1 else None
