"""verdict.json: the named checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .fields import absent


@dataclass(frozen=True)
class Check:
    """`detail` holds value, limit and margin; `fix` what to change, empty where passed. `margin`: of a
    number, the share of its limit that it has to spare; below zero where it failed."""

    name: str
    passed: bool
    detail: str
    fix: str = ""
    margin: float | None = absent()


@dataclass(frozen=True)
class Verdict:
    FILE: ClassVar[str] = "verdict.json"
    submittable: bool = False
    checks: tuple[Check, ...] = ()
