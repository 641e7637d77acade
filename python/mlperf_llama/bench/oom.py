"""Out of memory: what the engine's log tells, the plan of engine/oom_fallback.py, and the record of it."""

from __future__ import annotations

import logging
from dataclasses import replace
from os import SEEK_END

from ..engine import derive, oom_messages
from ..engine.oom_advice import advice
from ..engine.oom_fallback import MOST_RELOADS, FallbackStep, Load, make_plan
from ..engine.settings import EngineSettings
from ..errors import BrokeError, MissingError
from ..records.files import JsonObject
from ..records.run_folder import RunFolder
from ..records.schema import Gpu, MemoryStep, Provenance
from ..rules import MODEL_SHAPE, ModelShape
from ..terminal import console

log = logging.getLogger(__name__)

# Of a load's log; what matters stands at its end.
MOST_LOG = 1_048_576
_CONFIG_KEYS = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_size": "head_dim",
    "intermediate": "intermediate_size",
    "vocabulary": "vocab_size",
}


def shape_of(model_config: JsonObject) -> ModelShape:
    """A model's shape by its config.json; what is not there as in Llama-3.1-8B."""
    found = {name: model_config.get(key) for name, key in _CONFIG_KEYS.items()}
    numbers = {name: value for name, value in found.items() if isinstance(value, int)}
    shape = replace(MODEL_SHAPE, **numbers)
    return shape if "head_size" in numbers else replace(shape, head_size=shape.hidden // shape.heads)


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
        fault = console.last_fault(self._run.file("run.log"), start=self._log_from)
        if not oom_messages.is_out_of_memory(f"{reported} {fault}"):
            return ()
        # The figures may stand elsewhere in the log.
        shortage = oom_messages.shortage(f"{_log(self._run, self._log_from)}\n{reported}", serving)
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
        shape=shape_of(model_config),
        quantized="quantization_config" in model_config,
    )


def _record(run: RunFolder, steps: tuple[FallbackStep, ...]) -> None:
    """An entry per changed argument."""
    earlier = run.read_or_new(Provenance).memory_steps or ()
    taken = (MemoryStep(step.name, step.before, step.after) for step in steps)
    run.update(Provenance, memory_steps=(*earlier, *taken))
    for step in steps:
        log.warning("memory_step name=%s before=%s after=%s", step.name, step.before, step.after)


def _log(run: RunFolder, log_from: int) -> str:
    try:
        with run.file("run.log").open("rb") as stream:
            size = stream.seek(0, SEEK_END)
            stream.seek(max(log_from, size - MOST_LOG))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""
