"""Out of memory: the next step of engine/oom_fallback.py, and the record of it."""

from __future__ import annotations

import logging

from ..engine import derive, oom_fallback
from ..engine.oom_fallback import FallbackStep
from ..engine.settings import EngineSettings
from ..records.run_folder import RunFolder
from ..records.schema import Gpu, MemoryStep, Provenance
from ..terminal import console

log = logging.getLogger(__name__)


def fallback_step(
    run: RunFolder, settings: EngineSettings, gpu: Gpu | None, reported: str
) -> FallbackStep | None:
    """The step to take where `reported` or the engine's log tells of a lack of memory; None where that
    was not the cause, or nothing is left to give up."""
    cause = f"{reported} {console.last_fault(run.file('run.log'))}"
    if not oom_fallback.is_out_of_memory(cause):
        return None
    fp8_cache = gpu is not None and derive.card_of(gpu).fp8_cache
    step = oom_fallback.next_step(settings.arguments, settings.user_fixed, fp8_cache)
    if step is None:
        return None
    earlier = run.read_or_new(Provenance).memory_steps or ()
    taken = MemoryStep(step.name, step.before, step.after)
    run.update(Provenance, memory_steps=(*earlier, taken))
    log.warning("memory_step name=%s before=%s after=%s", step.name, step.before, step.after)
    return step
