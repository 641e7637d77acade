"""Builders of named checks: passed or not, what was seen, what to change."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..records.schema import Check

# Faults that a check's detail names.
MOST = 5


def check(name: str, passed: object, detail: str, fix: str) -> Check:
    """A check whose fix is kept only where it failed; anything but True fails."""
    ok = passed is True
    return Check(name, ok, detail, "" if ok else fix)


def at_least(name: str, value: float | None, limit: float, unit: str, fix: str) -> Check:
    """`value` must reach `limit`; the margin is relative to the limit."""
    if value is None:
        return Check(name, False, f"not recorded, at least {limit:g}{unit} needed", fix)
    detail = f"{value:.10g}{unit}, at least {limit:.10g}{unit}, margin {_margin(value - limit, limit)}"
    return replace(check(name, value >= limit, detail, fix), margin=_share(value - limit, limit))


def below(name: str, value: float | None, limit: float, unit: str, fix: str) -> Check:
    """`value` must stay under `limit`."""
    if value is None:
        return Check(name, False, f"not recorded, under {limit:g}{unit} needed", fix)
    detail = f"{value:.10g}{unit}, under {limit:.10g}{unit}, margin {_margin(limit - value, limit)}"
    return replace(check(name, value < limit, detail, fix), margin=_share(limit - value, limit))


def equal(name: str, value: object, expected: object, fix: str) -> Check:
    """`value` must be `expected`."""
    detail = f"{value}" if value == expected else f"{value}, expected {expected}"
    return check(name, value == expected, detail, fix)


def first(faults: Sequence[str]) -> str:
    """The first few faults in one line, and how many more there are; empty where there are none."""
    more = f" and {len(faults) - MOST} more" if len(faults) > MOST else ""
    return "; ".join(faults[:MOST]) + more


def nearest_first(checks: Iterable[Check]) -> list[Check]:
    """The failed checks, nearest to passing first; then those without a number, as they come."""
    failed = [check for check in checks if not check.passed]
    return sorted(failed, key=lambda check: math.inf if check.margin is None else abs(check.margin))


def _share(difference: float, limit: float) -> float | None:
    return round(difference / limit, 6) if limit and math.isfinite(difference) else None


def _margin(difference: float, limit: float) -> str:
    return f"{difference / limit * 100:+.2f}%" if limit else f"{difference:+g}"


def all_passed(checks: Iterable[Check]) -> bool:
    """True for a non-empty list of passed checks, and for nothing else."""
    checks = list(checks)
    return bool(checks) and all(c.passed is True for c in checks)
