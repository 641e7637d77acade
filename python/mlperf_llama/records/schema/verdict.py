"""verdict.json: the named checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Check:
    """`detail` holds value, limit and margin; `fix` what to change, empty where passed."""

    name: str
    passed: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Verdict:
    FILE: ClassVar[str] = "verdict.json"
    submittable: bool = False
    checks: tuple[Check, ...] = ()
