"""Out of memory: what the engine's log tells, the plan of engine/oom_fallback.py, and the record of it."""

from __future__ import annotations

import logging
import re
from os import SEEK_END

from ..engine import derive, oom_messages
from ..engine.oom_advice import advice
from ..engine.oom_fallback import MOST_RELOADS, FallbackStep, Load, make_plan
from ..engine.settings import EngineSettings
from ..errors import BrokeError, MissingError
from ..records.files import JsonObject
from ..records.run_folder import RunFolder
from ..records.schema import Gpu, MemoryStep, Provenance
from ..rules import MODEL_SHAPE
from ..sources.model.shape import shape_of
from ..terminal import console

log = logging.getLogger(__name__)

# Of a load's log; what matters stands at its end.
MOST_LOG = 1_048_576
# How a member's failure begins (MemberSpec.name); its lines in the log begin so, too.
MEMBER = re.compile(r"(member \d+) on ")


class MemoryFallback:
    """The steps that a session has taken; `steps` in order."""

    def __init__(self, run: RunFolder, gpu: Gpu | None, model_config: JsonObject) -> None:
        self._run, self._gpu, self._model_config = run, gpu, model_config
        self.steps: list[FallbackStep] = []
        self._reloads = 0
        # Where run.log stood when the engine's load began.
        self._log_from = 0

    def begin_load(self) -> None:
        path = self._run.file("run.log")
        self._log_from = path.stat().st_size if path.is_file() else 0

    def take(
        self, settings: EngineSettings, reported: str, serving: bool = False
    ) -> tuple[FallbackStep, ...]:
        """All steps that are needed, where `reported` or the log of the load tells of a lack of memory; none
        where that was not the cause. MissingError: no step gives what is missing. BrokeError: it is missing
        after MOST_RELOADS, too. `serving`: the engine had been loaded."""
        printed = _printed_by(reported, _log(self._run, self._log_from))
        fault = console.fault_in(printed.splitlines())
        if not oom_messages.is_out_of_memory(f"{reported} {fault}"):
            return ()
        # The figures may stand elsewhere in the log.
        shortage = oom_messages.shortage(f"{printed}\n{reported}", serving)
        load = _load(settings, self._gpu, self._model_config)
        plan = make_plan(shortage, load)
        if not plan.suffices:
            # Nothing of the engine is at fault: memory is missing here, as a GPU or weights may be.
            raise MissingError(advice(shortage, plan, load))
        if self._reloads >= MOST_RELOADS:
            line = advice(shortage, plan, load)
            raise BrokeError(f"{line}; the engine was loaded {self._reloads} times again with less")
        self._reloads += 1
        self.steps.extend(plan.steps)
        _record(self._run, plan.steps)
        return plan.steps


def _load(settings: EngineSettings, gpu: Gpu | None, model_config: JsonObject) -> Load:
    """The engine whose memory did not suffice."""
    card = derive.card_of(gpu) if gpu else None
    return Load(
        settings.arguments,
        settings.user_fixed,
        fp8_cache=card is not None and card.fp8_cache,
        total_gib=card.memory_gib if card and card.memory_gib else None,
        shape=shape_of(model_config, MODEL_SHAPE),
        quantized="quantization_config" in model_config,
    )


def _record(run: RunFolder, steps: tuple[FallbackStep, ...]) -> None:
    """An entry per changed argument."""
    earlier = run.read_or_new(Provenance).memory_steps or ()
    taken = (MemoryStep(step.name, step.before, step.after) for step in steps)
    run.update(Provenance, memory_steps=(*earlier, *taken))
    for step in steps:
        log.warning("memory_step name=%s before=%s after=%s", step.name, step.before, step.after)


def _printed_by(reported: str, log: str) -> str:
    """What the member that failed printed, where there are several: the others' figures are not its own."""
    failed = MEMBER.match(reported)
    if failed is None:
        return log
    own = f"{failed[1]} | "
    return "\n".join(line.removeprefix(own) for line in log.splitlines() if line.startswith(own))


def _log(run: RunFolder, log_from: int) -> str:
    try:
        with run.file("run.log").open("rb") as stream:
            size = stream.seek(0, SEEK_END)
            stream.seek(max(log_from, size - MOST_LOG))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
