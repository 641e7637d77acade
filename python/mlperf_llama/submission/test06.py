"""Writes TEST06's verify_accuracy.txt, in the official form and by our stricter checks."""

from __future__ import annotations

from ..loadgen import logs
from ..records.files import write_text
from ..records.run_folder import RunFolder
from ..verdict import test06
from ..verdict.test06 import Verification


def verify_test06(run: RunFolder, scenario: str) -> Verification:
    """Verify a scenario's TEST06 log and write verify_accuracy.txt beside it."""
    folder = run.log_dir(scenario, "compliance")
    found = test06.verify(folder / logs.ACCURACY, scenario)
    write_text(folder / test06.TEXT, found.text())
    return found
