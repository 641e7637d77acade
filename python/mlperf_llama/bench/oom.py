"""Out of memory: one rung down engine/ladder.py, and the record of it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from ..config import Config
from ..engine import derive, oom_fallback, settings
from ..records.run_folder import RunFolder
from ..records.schema import Gpu
from ..terminal import console

log = logging.getLogger(__name__)


def step_down(
    run: RunFolder, config: Config, gpu: Gpu | None, arguments: Mapping[str, Any], said: str
) -> tuple[dict[str, Any], str] | None:
    """The arguments that change and the words for it, where `said` or the engine's log tells of
    a lack of memory; None where that was not the cause, or nothing is left to give up."""
    cause = f"{said} {console.last_fault(run.file('run.log'))}"
    if not oom_fallback.is_out_of_memory(cause):
        return None
    fp8_cache = gpu is not None and derive.card_of(gpu).fp8_cache
    step = oom_fallback.next_step(arguments, settings.fixed_by_user(config), fp8_cache)
    if step is None:
        return None
    steps = [*run.read_or_empty("provenance.json").get("memory_steps", []), dataclasses.asdict(step)]
    run.merge("provenance.json", memory_steps=steps)
    log.warning("memory_step name=%s before=%s after=%s", step.name, step.before, step.after)
    changed = step.apply(arguments)
    words = f"out of memory: {step.name} from {step.before} to {step.after}"
    return {k: v for k, v in changed.items() if arguments.get(k) != v}, words
