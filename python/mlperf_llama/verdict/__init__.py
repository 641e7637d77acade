"""The verdict: submittable or not, each rule a named check, derived from the logs.

`submittable` is true only where every check passed and there was at least one.
Works on interrupted and failed runs too, which are never submittable.
"""

from __future__ import annotations

from typing import Any

from ..records.run_folder import RunFolder
from . import eligibility, evidence
from .check import Check, all_passed
from .scenario import checks as scenario_checks

NAME = "verdict.json"


def examine(run: RunFolder) -> list[Check]:
    """Every check of one run folder, in the order a reader wants them."""
    found = evidence.read(run)
    checks = eligibility.checks(found)
    for one in found.scenarios:
        checks += scenario_checks(one, found)
    return checks


def judge(run: RunFolder) -> dict[str, Any]:
    """Judge a run folder and write verdict.json."""
    checks = examine(run)
    verdict = {"submittable": all_passed(checks), "checks": [c.to_json() for c in checks]}
    run.write_raw(NAME, verdict)
    return verdict


__all__ = ["NAME", "Check", "all_passed", "examine", "judge"]
