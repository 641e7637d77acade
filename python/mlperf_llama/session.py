"""One loaded engine and the samples it will answer: made, warmed up, measured, closed."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from . import model, rules
from .config import Config
from .dataset import prepare
from .engine import Engine, EngineInfo, Limits, options
from .errors import UsageError
from .events import Events
from .results import RunFolder
from .warm_up import Speed, answer_all, made_up_prompts

log = logging.getLogger(__name__)
# A CPU answers about one sample in two seconds: enough for a real run in minutes.
CPU_SAMPLES = 16
SHORTENED_DURATION_S = 1.0


@dataclass(frozen=True)
class Scope:
    """How much of the benchmark is run."""

    sample_count: int
    full_sample_count: int
    duration_s: float
    on_gpu: bool

    @property
    def shortened(self) -> bool:
        return self.sample_count < self.full_sample_count or self.duration_s < rules.MIN_DURATION_S


def scope(config: Config, rows: int, gpu_name: str | None) -> Scope:
    """Settings, rows at hand and the machine decide the count; a subset shortens the duration."""
    full = config.full_sample_count
    on_gpu = gpu_name is not None
    wanted = config.samples or (min(full, rows) if on_gpu or config.engine == "fake" else CPU_SAMPLES)
    if config.samples and config.samples > rows:
        raise UsageError(f"SAMPLES: expected at most the dataset's {rows} rows, found {config.samples}")
    count = min(wanted, rows)
    duration = config.duration_s
    if duration is None:
        duration = rules.MIN_DURATION_S if count == full else SHORTENED_DURATION_S
    return Scope(count, full, duration, on_gpu)


def check_same(provenance: Mapping[str, Any]) -> None:
    """A resumed run must stand on the data and the model that its finished part stood on."""
    for kind, before in provenance.get("stood_on", {}).items():
        now = provenance[kind]["sha256"]
        if before not in (None, now):
            raise UsageError(
                f"{kind}: expected sha256 {before}, which the finished runs used, found {now} from "
                f"{provenance[kind]['source']}; resume where the same {kind} can be had"
            )


def gpu_name(run: RunFolder) -> str | None:
    """The first GPU's product name, from system.json."""
    gpus = run.read("system.json").get("gpus") or []
    return str(gpus[0]["name"]) if gpus else None


class Session:
    """The engine process's side of a run."""

    def __init__(self, run: RunFolder, config: Config, events: Events) -> None:
        self.run, self.config, self.events = run, config, events
        provenance = run.read("provenance.json")
        check_same(provenance)
        self.model_dir = Path(provenance["model"]["path"])
        self.gpu_name = gpu_name(run)
        self.scope = scope(config, int(provenance["dataset"]["rows"]), self.gpu_name)
        self.preset = options.choose(config, self.gpu_name)
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
        self.limits = Limits(
            rules.MAX_NEW_TOKENS, rules.MIN_NEW_TOKENS, tuple(model.stop_ids(self.model_dir))
        )
        events.emit("data", done=self.samples.count, total=self.samples.count, unit="samples")
        self.engine = self._make_engine()
        # Offline QPS per scenario, where the warm-up's guess proved too low.
        self.guessed_qps: dict[str, float] = {}

    def _make_engine(self) -> Engine:
        if self.config.engine == "fake":
            from .engine.fake import FakeEngine

            return FakeEngine(self.config.fake)
        from .engine.vllm import VllmEngine

        on_cpu = self.gpu_name is None
        arguments = options.vllm_arguments(
            self.config, self.preset, str(self.model_dir), self.max_model_len, use_async=not on_cpu
        )
        environment = options.environment(self.preset, on_cpu)
        return VllmEngine(arguments, self.config.cache_path, environment)

    async def start(self) -> EngineInfo:
        """Load the engine and record what it really uses."""
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
        return {**loaded, "scenario_max_num_seqs": seats, "scenario_prefill_tokens": prefill_tokens}

    async def set_limits(self, scenario: str) -> None:
        """The preset's limits for a scenario, where the engine has any."""
        setter = getattr(self.engine, "set_limits", None)
        if setter is not None:
            await setter(*self.preset.limits(scenario))

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


def describe_scope(found: Scope) -> Mapping[str, Any]:
    return {
        "samples": found.sample_count,
        "full_samples": found.full_sample_count,
        "duration_s": found.duration_s,
        "shortened": found.shortened,
    }
