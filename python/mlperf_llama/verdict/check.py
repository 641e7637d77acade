"""Builders of named checks: passed or not, what was seen, what to change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    return check(name, value >= limit, detail, fix)


def below(name: str, value: float | None, limit: float, unit: str, fix: str) -> Check:
    """`value` must stay under `limit`."""
    if value is None:
        return Check(name, False, f"not recorded, under {limit:g}{unit} needed", fix)
    detail = f"{value:.10g}{unit}, under {limit:.10g}{unit}, margin {_margin(limit - value, limit)}"
    return check(name, value < limit, detail, fix)


def equal(name: str, value: object, expected: object, fix: str) -> Check:
    """`value` must be `expected`."""
    detail = f"{value}" if value == expected else f"{value}, expected {expected}"
    return check(name, value == expected, detail, fix)


def first(faults: Sequence[str]) -> str:
    """The first few faults in one line, and how many more there are; empty where there are none."""
    more = f" and {len(faults) - MOST} more" if len(faults) > MOST else ""
    return "; ".join(faults[:MOST]) + more


def _margin(difference: float, limit: float) -> str:
    return f"{difference / limit * 100:+.2f}%" if limit else f"{difference:+g}"


def all_passed(checks: Iterable[Check]) -> bool:
    """True for a non-empty list of passed checks, and for nothing else."""
    checks = list(checks)
    return bool(checks) and all(c.passed is True for c in checks)
