"""The check of a run folder's signature, where it has one or ALLOWED_SIGNERS asks for one."""

from __future__ import annotations

from ..records import signature
from ..records.run_folder import RunFolder
from ..records.schema import Check
from .check import check

FIX = "`make sign` with the key of one of the signers, on the folder as its last stage left it"


def checks(run: RunFolder, name: str = "signature") -> list[Check]:
    """None where nobody signed and nobody asks."""
    verified = signature.verify(run)
    return [check(name, verified.good, verified.detail, FIX)] if verified else []
