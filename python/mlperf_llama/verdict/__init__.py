"""The verdict: submittable or not, each rule a named check, derived from the logs.

`submittable` is true only where every check passed and there was at least one.
Works on interrupted and failed runs too, which are never submittable.
"""

from __future__ import annotations

from ..records.run_folder import RunFolder
from ..records.schema import Check, Verdict
from . import eligibility, evidence
from .check import all_passed
from .scenario import checks as scenario_checks


def examine(run: RunFolder) -> list[Check]:
    """Every check of one run folder, in the order a reader wants them."""
    whole = evidence.read(run)
    checks = eligibility.checks(whole)
    for scenario in whole.scenarios:
        checks += scenario_checks(scenario, whole)
    return checks


def judge(run: RunFolder) -> Verdict:
    """Judge a run folder and write verdict.json."""
    checks = examine(run)
    verdict = Verdict(all_passed(checks), tuple(checks))
    run.write(verdict)
    return verdict


__all__ = ["all_passed", "examine", "judge"]
