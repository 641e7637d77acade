"""Whether our own kernels ran, and were compared with the engine's own code when they were loaded."""

from __future__ import annotations

from ..engine.hopper import EXTENSION, RANDOM_EXTENSION, bounds
from ..engine.hopper.compat import OWN_PATH
from ..records.schema import Check
from .check import check
from .evidence import Evidence

NAME = "extension"
# Worker extensions of vLLM that compute in place of its own code.
EXTENSIONS = (EXTENSION, RANDOM_EXTENSION)
FIX = f"run again; where the self-check fails, {OWN_PATH}"


def check_extension(evidence: Evidence) -> Check:
    """Names the extension, its revision and the figures of its self-check."""
    engine = evidence.results.engine
    if engine is None:
        return Check(NAME, False, "not recorded", FIX)
    loaded, self_check = str(engine.settings.get("worker_extension_cls") or ""), engine.self_check
    if self_check:
        passed = self_check.extension == loaded and bounds.within(self_check)
        return check(NAME, passed, f"{loaded or 'none'}, {bounds.text(self_check)}", FIX)
    if loaded in EXTENSIONS:
        return Check(NAME, False, f"{loaded}, no self-check is recorded", FIX)
    return check(NAME, True, loaded or "none: the engine's own code", FIX)
