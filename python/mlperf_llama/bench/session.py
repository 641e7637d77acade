"""One loaded engine and the samples it will answer: made, warmed up, measured, closed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from .. import rules
from ..config import Config
from ..engine import Engine, EngineInfo, Limits, settings, tuned
from ..errors import BrokeError, UsageError
from ..records.events import Events
from ..records.run_folder import RunFolder
from ..sources import model
from ..sources.dataset import prepare
from . import oom
from .scope import first_gpu, scope
from .warm_up import Speed, answer_all, made_up_prompts

log = logging.getLogger(__name__)


def check_same(provenance: Mapping[str, Any]) -> None:
    """A resumed run must stand on the data and the model that its finished part stood on."""
    for kind, before in provenance.get("stood_on", {}).items():
        now = provenance[kind]["sha256"]
        if before not in (None, now):
            raise UsageError(
                f"{kind}: expected sha256 {before}, which the finished runs used, found {now} from "
                f"{provenance[kind]['source']}; resume where the same {kind} can be had"
            )


class Session:
    """The engine process's side of a run."""

    def __init__(self, run: RunFolder, config: Config, events: Events) -> None:
        self.run, self.config, self.events = run, config, events
        provenance = run.read("provenance.json")
        check_same(provenance)
        self.model_dir = Path(provenance["model"]["path"])
        self.gpu = first_gpu(run)
        self.gpu_name = str(self.gpu["name"]) if self.gpu else None
        self.scope = scope(config, int(provenance["dataset"]["rows"]), self.gpu_name)
        self.preset = settings.choose(config, self.gpu_name, self.gpu)
        self.tuned_path = tuned.path_of(run.path.parent, config, self.gpu_name)
        self.identity = tuned.identity(config, provenance, self.preset.engine)
        self.tuned = tuned.read(self.tuned_path, self.identity)
        self.preset = self.tuned.over(self.preset)
        # What runs use, where the engine was loaded with room for more (load_with).
        self.own_engine = dict(self.preset.engine)
        self.default_limits: tuple[int | None, int | None] = (None, None)
        # Arguments that a lack of memory changed.
        self._stepped: dict[str, Any] = {}
        self._model_config = json.loads((self.model_dir / "config.json").read_text(encoding="utf-8"))
        reference = model.is_reference_tokenizer(self.model_dir)
        positions = int(self._model_config.get("max_position_embeddings", rules.MAX_MODEL_LEN))
        events.emit("data", message="tokenising the prompts")
        self.samples = prepare.prepare(
            Path(provenance["dataset"]["path"]),
            self.model_dir,
            config.cache_path,
            self.scope.sample_count,
            reference,
            positions - rules.MAX_NEW_TOKENS,
        )
        longest = int(self.samples.lengths.max())
        self.max_model_len = max(rules.MAX_MODEL_LEN, longest + rules.MAX_NEW_TOKENS)
        most, least = rules.MAX_NEW_TOKENS, rules.MIN_NEW_TOKENS
        ends = Limits(most, least, tuple(model.stop_ids(self.model_dir)))
        self.limits = Limits(most, most, ()) if config.ignore_eos else ends
        events.emit("data", done=self.samples.count, total=self.samples.count, unit="samples")
        self.engine = self._make_engine()
        # Offline QPS per scenario, where the warm-up's guess proved too low.
        self.guessed_qps: dict[str, float] = {}

    def _make_engine(self) -> Engine:
        if self.config.engine == "fake":
            from ..engine.fake import FakeEngine

            return FakeEngine(self.config.fake)
        from ..engine.vllm import VllmEngine

        environment = settings.environment(self.preset, self.gpu is None)
        return VllmEngine(self._arguments(), self.config.cache_path, environment)

    def _arguments(self) -> dict[str, Any]:
        """What vLLM is asked for; a checkpoint that is quantised says so itself."""
        preset = self.preset
        if "quantization_config" in self._model_config:
            engine = {k: v for k, v in preset.engine.items() if k != "quantization"}
            preset = dataclasses.replace(preset, engine=engine)
        arguments = settings.vllm_arguments(
            self.config, preset, str(self.model_dir), self.max_model_len, use_async=self.gpu is not None
        )
        random = {"load_format": "dummy"} if model.is_random(self._model_config) else {}
        return {**arguments, **random, **self._stepped}

    def use(self, found: tuned.Tuned) -> None:
        """Tuned limits for the scenarios that follow; what is loaded stays."""
        self.tuned = found
        engine = self.preset.engine
        self.preset = dataclasses.replace(found.over(self.preset), engine=engine)

    def load_with(self, ceilings: Mapping[str, int]) -> None:
        """Raise what the engine will be loaded with; the runs' own limits stay."""
        self.preset = dataclasses.replace(self.preset, engine={**self.preset.engine, **ceilings})
        self.engine = self._make_engine()

    async def start(self) -> EngineInfo:
        """Load the engine, with less of what memory does not hold, and record what it uses."""
        while True:
            try:
                return await self._load()
            except BrokeError as error:
                if not self._step_down(str(error)):
                    raise
                await self._renew()

    async def counters(self) -> dict[str, float]:
        """The engine's totals so far: steps, scheduled tokens, preemptions."""
        refresh = getattr(self.engine, "refresh_counters", None)
        if refresh is not None:
            await refresh()
        return self.engine.counters()

    async def restart(self, said: str) -> None:
        """A new engine in place of one that died; `said`: its last words."""
        self._step_down(said)
        await self._renew()
        await self.start()

    def _step_down(self, said: str) -> bool:
        if self.config.engine == "fake":
            return False
        found = oom.step_down(self.run, self.config, self.gpu, self._arguments(), said)
        if found is None:
            return False
        self._stepped |= found[0]
        self.events.emit("engine", message=found[1])
        return True

    async def _renew(self) -> None:
        await self.close()
        self.engine = self._make_engine()

    async def _load(self) -> EngineInfo:
        info = await self.engine.start(lambda message: self.events.emit("engine", message=message))
        self.run.merge(
            "results.json",
            engine={
                "name": info.name,
                "version": info.version,
                "preset": self.preset.name if info.name != "fake" else None,
                "settings": info.settings,
                "details": info.details,
                "load_s": info.load_s,
            },
        )
        self.events.emit("engine", message=f"loaded in {info.load_s:.0f} s")
        return info

    async def warm_up(self) -> Speed:
        """Touch every shape before the first timed run; measure the speed on the way."""
        lengths = [int(n) for n in self.samples.lengths]
        vocabulary = int(self._model_config.get("vocab_size", 1000))
        full = Limits(self.limits.max_new_tokens, self.limits.max_new_tokens, ())
        self.events.emit("warm-up", message="made-up prompts")
        one = made_up_prompts([sorted(lengths)[len(lengths) // 2]], 1, vocabulary, self.config.seed)
        await answer_all(self.engine, one, full)
        latency = await answer_all(self.engine, one, full) if self.scope.on_gpu else 0.0
        count = self._warm_up_count()
        prompts = made_up_prompts(lengths, count, vocabulary, self.config.seed + 1)
        seconds = await answer_all(self.engine, prompts, full)
        self.events.emit("warm-up", done=count, total=count, unit="samples")
        rate = count / max(seconds, 1e-9)
        return Speed(rate, 1000 * (latency or seconds / count))

    def _warm_up_count(self) -> int:
        if self.config.engine == "fake":
            return 2
        if not self.scope.on_gpu:
            return min(4, self.samples.count)
        seats = int(self.preset.engine.get("max_num_seqs", 256))
        return min(2 * (self.config.max_num_seqs or seats), 1024)

    def settings(self, scenario: str) -> dict[str, Any]:
        """The engine's settings as a scenario's runs use them, for the record."""
        seats, prefill_tokens = self.preset.limits(scenario)
        loaded = dict(self.run.read("results.json")["engine"]["settings"])
        found = {"scenario_max_num_seqs": seats, "scenario_prefill_tokens": prefill_tokens}
        return {**loaded, **found, **self.preset.pacing(scenario)}

    async def set_limits(self, scenario: str) -> None:
        """The preset's limits for a scenario, where the engine has any."""
        setter = getattr(self.engine, "set_limits", None)
        if setter is not None:
            seats, prefill_tokens = self.preset.limits(scenario)
            await setter(seats or self.default_limits[0], prefill_tokens or self.default_limits[1])
        pacing = getattr(self.engine, "set_pacing", None)
        if pacing is not None:
            await pacing(**self.preset.pacing(scenario))

    async def close(self) -> None:
        """Close the engine, then end whatever processes it may have left."""
        try:
            await asyncio.wait_for(self.engine.close(), 10)
        except (TimeoutError, Exception) as error:
            log.warning("engine_close error=%r", error)
        end_children()


def end_children() -> None:
    """Kill every process this one started; nothing of a run outlives it."""
    for child in psutil.Process(os.getpid()).children(recursive=True):
        try:
            if "resource_tracker" in " ".join(child.cmdline()):
                continue
            child.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
