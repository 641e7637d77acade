"""One loaded engine and the samples it will answer: made, warmed up, measured, closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from .. import rules
from ..config import Config
from ..engine import Engine, EngineInfo, Limits, tuned
from ..engine.hopper import bounds
from ..engine.preset import DEFAULT_MAX_NUM_SEQS, choose_preset
from ..engine.replicas import plan as replicas
from ..engine.replicas.places import Placed
from ..engine.settings import EngineSettings, engine_settings
from ..errors import BrokeError, PipelineError
from ..machine.gpu_sampler import GpuSampler
from ..machine.processes import end_children
from ..records.events import Events
from ..records.files import read_object
from ..records.run_folder import RunFolder
from ..records.schema import Energy, Provenance, Provided, System
from ..sources import model
from ..sources.model import unchanged
from . import endpoints, engine_record, inputs, members, oom, scales
from .scope import first_gpu, scope_of
from .warm_up import Speed, answer_all, made_up_prompts

log = logging.getLogger(__name__)


class Session:
    """The engine process's side of a run."""

    # From the start of the process; an engine loaded again answers no first one.
    _first_query_s: float | None = None

    def __init__(
        self,
        run: RunFolder,
        config: Config,
        events: Events,
        placed: Placed | None = None,
        sampler: GpuSampler | None = None,
        endpoint_key: str | None = None,
    ) -> None:
        self.run, self.config, self.events, self.placed = run, config, events, placed
        self._sampler, self._endpoint_key = sampler, endpoint_key
        provenance = run.read(Provenance)
        inputs.check_resume_inputs(provenance)
        served_model = inputs.provided(run, "model", provenance.model)
        served_dataset = inputs.provided(run, "dataset", provenance.dataset)
        self.model_dir = Path(str(served_model.path))
        self.gpu = first_gpu(run)
        self.gpu_name = self.gpu.name if self.gpu else None
        # A server has GPUs of its own.
        on_gpu = self.gpu is not None or bool(config.endpoints)
        self.scope = scope_of(config, served_dataset.rows or 0, on_gpu)
        self.members = placed.members if placed else replicas.members(config, run.read(System).gpus)
        self.preset = choose_preset(config, self.gpu)
        self.tuned_path = tuned.path_of(run.path.parent, config, self.gpu_name)
        self.identity = tuned.identity(
            config,
            str(served_model.sha256),
            self.preset.engine,
            static_scales=scales.path_in_use(run) is not None,
            replicas=len(self.members),
        )
        self.tuned = tuned.read(self.tuned_path, self.identity)
        # What the engine is loaded with beyond the runs' own limits (raise_ceilings).
        self._ceilings: Mapping[str, int] = {}
        self._info: EngineInfo | None = None
        self._model_config = read_object(self.model_dir / "config.json")
        self._memory = oom.MemoryFallback(run, self.gpu, self._model_config)
        events.emit("data", message="tokenising the prompts")
        self.samples = inputs.samples(
            served_dataset, served_model, self._model_config, config.cache_path, self.scope
        )
        longest = int(self.samples.lengths.max())
        self.max_model_len = max(rules.MAX_MODEL_LEN, longest + rules.MAX_NEW_TOKENS)
        most, least = rules.MAX_NEW_TOKENS, rules.MIN_NEW_TOKENS
        ends = Limits(most, least, tuple(model.stop_ids(self.model_dir)))
        self.limits = Limits(most, most, ()) if config.ignore_eos else ends
        events.emit("data", done=self.samples.count, total=self.samples.count, unit="samples")
        self.engine = self._make_engine()
        # QPS of a run again, where the guess for the first proved too low.
        self.repeat_qps: dict[str, float] = {}

    @property
    def has_official_shape(self) -> bool:
        """Whether the model is as large as Llama-3.1-8B, so that known runs tell of its speed."""
        shape = (self._model_config.get("hidden_size"), self._model_config.get("num_hidden_layers"))
        return self.config.engine == "vllm" and shape == (rules.MODEL_SHAPE.hidden, rules.MODEL_SHAPE.layers)

    @property
    def settings(self) -> EngineSettings:
        """The engine's, by what is known now."""
        return engine_settings(
            self.config,
            self.preset,
            self.tuned,
            inputs.model_facts(self.model_dir, self._model_config, self.max_model_len),
            on_gpu=self.gpu is not None,
            cpu_threads=replicas.cpu_threads(len(self.members)),
            oom_overrides=self._memory.steps,
            ceilings=self._ceilings,
            scales=scales.path_in_use(self.run),
        )

    def _make_engine(self) -> Engine:
        if self.placed or len(self.members) > 1:
            return members.make_engine(self)
        if self.config.engine == "fake":
            from ..engine.fake import FakeEngine

            return FakeEngine(self.config.fake)
        if self.config.endpoints:
            return endpoints.make_engine(self.config, self._vocabulary, self._endpoint_key)
        from ..engine.vllm import VllmEngine

        settings, visible = self.settings, replicas.environment_of(self.members[0], self.config)
        return VllmEngine(settings.arguments, self.config.cache_path, {**settings.environment, **visible})

    def raise_ceilings(self, ceilings: Mapping[str, int]) -> None:
        """Raise what the engine will be loaded with; the runs' own limits stay."""
        self._ceilings = ceilings
        self.engine = self._make_engine()

    async def start(self) -> EngineInfo:
        """Load the engine, with less of what memory does not hold, and record what it uses. MissingError:
        memory does not hold it with less, either. BrokeError: its extension computes something else."""
        while True:
            try:
                info = await self._load()
            except BrokeError as error:
                if not self._fall_back(str(error)):
                    raise
                await self._renew()
            else:
                bounds.refuse_failed(info.self_check)
                return info

    async def counters(self) -> dict[str, float]:
        """The engine's totals so far: steps, scheduled tokens, preemptions."""
        refresh = getattr(self.engine, "refresh_counters", None)
        if refresh is not None:
            await refresh()
        return self.engine.counters()

    async def restart(self, reported: str) -> None:
        """A new engine in place of one that died; `reported`: its last words."""
        try:
            self._fall_back(reported, serving=True)
        except PipelineError as error:
            # It had loaded: the same again.
            log.warning("memory_fallback error=%r", str(error))
        await self._renew()
        await self.start()

    def _fall_back(self, reported: str, serving: bool = False) -> bool:
        """Take the fallback steps that are needed, where memory was the cause."""
        if self.config.engine != "vllm":
            return False
        steps = self._memory.take(self.settings, reported, serving)
        if not steps:
            return False
        self.events.emit("engine", message=f"out of memory: {', '.join(map(str, steps))}")
        return True

    async def _renew(self) -> None:
        await self.close()
        self.engine = self._make_engine()

    async def _load(self) -> EngineInfo:
        self._memory.begin_load()
        info = await self.engine.start(lambda message: self.events.emit("engine", message=message))
        unchanged.check_loaded(self.run.read(Provenance).model or Provided())
        self._info = info
        settings = {**info.settings, **scales.record_in_use(self.run)}
        engine_record.loaded(self.run, info, settings, self.preset, self._first_query_s)
        members.record(self)
        endpoints.record(self.run, self.config, self.engine)
        engine_record.add_loads(self.run, members.infos(self) or {None: info}, self.preset)
        self.events.emit("engine", message=f"loaded in {info.load_s:.0f} s")
        return info

    async def warm_up(self) -> Speed:
        """Touch every shape before the first timed run; measure the speed on the way."""
        lengths = [int(n) for n in self.samples.lengths]
        vocabulary = self._vocabulary
        full = Limits(self.limits.max_new_tokens, self.limits.max_new_tokens, ())
        self.events.emit("warm-up", message="made-up prompts")
        # One for each engine: they share the work alike.
        engines = len(self.members)
        one = made_up_prompts([sorted(lengths)[len(lengths) // 2]], engines, vocabulary, self.config.seed)
        await answer_all(self.engine, one, full)
        self._first_query_s = self._first_query_s or engine_record.add_first_query(self.run)
        latency = await answer_all(self.engine, one, full) if self.scope.on_gpu else 0.0
        count = engines * self._warm_up_count()
        prompts = made_up_prompts(lengths, count, vocabulary, self.config.seed + 1)
        seconds = await answer_all(self.engine, prompts, full)
        self.events.emit("warm-up", done=count, total=count, unit="samples")
        rate = count / max(seconds, 1e-9)
        return Speed(rate, 1000 * (latency or engines * seconds / count))

    @property
    def _vocabulary(self) -> int:
        return inputs.whole_number(self._model_config, "vocab_size", 1000)

    def _warm_up_count(self) -> int:
        if self.config.engine == "fake":
            return 2
        if not self.scope.on_gpu or (self.config.endpoints and self.scope.shortened):
            return min(4, self.samples.count)
        return min(2 * int(self.settings.arguments.get("max_num_seqs", DEFAULT_MAX_NUM_SEQS)), 1024)

    async def energy(self, timed_s: tuple[float, float]) -> Energy | None:
        """What a lone engine's GPUs drew between two moments of the monotonic clock; None where unread."""
        return await asyncio.to_thread(self._sampler.energy, *timed_s) if self._sampler else None

    def used_settings(self, scenario: str) -> dict[str, object]:
        """The loaded engine's settings as a scenario's runs use them, for the record."""
        assert self._info is not None
        own = {} if self.config.endpoints else self.settings.scenarios[scenario].record()
        return {**self._info.settings, **scales.record_in_use(self.run), **own}

    async def set_limits(self, scenario: str, mode: str = "performance") -> None:
        """A scenario's limits and pacing, where the engine has any, before a run of this mode."""
        settings = self.settings.scenarios[scenario]
        await members.begin_run(self, scenario, mode)
        endpoints.begin_run(self.engine, mode)
        setter = getattr(self.engine, "set_limits", None)
        if setter is not None:
            await setter(settings.max_num_seqs, settings.prefill_tokens)
        pacing = getattr(self.engine, "set_pacing", None)
        if pacing is not None:
            await pacing(settings.pacing)

    async def close(self) -> None:
        """Close the engine, then end whatever processes it may have left."""
        try:
            await asyncio.wait_for(self.engine.close(), 10)
        except Exception as error:
            log.warning("engine_close error=%r", error)
        end_children()
