"""How long each run will take, said before it starts; by LoadGen's own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .. import rules
from ..config import Config
from ..engine import tuned
from ..engine.preset import Preset, choose_preset
from ..engine.replicas.plan import chosen_gpus, members
from ..errors import UsageError
from ..loadgen import plan
from ..loadgen.plan import Plan
from ..machine import roofline
from ..machine.gpu_table import find_gpu
from ..machine.memory import free_bytes
from ..records.schema import STATIC, Gpu
from ..settings import AUTO
from ..sources.model import checkpoint
from . import target_qps
from .scope import Scope, scope_of
from .target_qps import Choice, OfflineSpeed

# What engines reach of a card's limit before anybody tunes them (published H100 and H200 results).
REACHED = 0.6
# Where MODEL takes the official weights.
OFFICIAL = ("mlcommons", "huggingface")
HEADS = ("scenario", "mode", "queries", "minutes", "at", "from")


def describe(planned: Plan) -> str:
    """One run's size and time."""
    seconds = planned.expected_seconds
    time = "as long as the engine takes" if seconds is None else f"about {duration(seconds)}"
    return f"{planned.expected_queries:,} queries, {time}{_speed(planned)}"


def total(plans: Sequence[Plan]) -> str:
    """Several runs' number and time in all, and what will not be judged."""
    runs = f"{len(plans)} LoadGen run{'' if len(plans) == 1 else 's'}"
    time = duration(sum(planned.expected_seconds or 0.0 for planned in plans))
    few = [f"{planned.scenario} {planned.mode}" for planned in plans if planned.too_few]
    end = f"; shortened, with too few queries to be judged: {', '.join(few)}" if few else ""
    return f"{runs}, about {time} in all, without scoring{end}"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _speed(planned: Plan) -> str:
    if planned.target_qps is not None:
        return f" at {planned.target_qps:g} queries/s"
    return f" at {planned.expected_latency_ms:g} ms each"


def table(config: Config, gpus: Sequence[Gpu]) -> str:
    """Every run that these settings ask for, as a full-length one (or of SAMPLES and DURATION_S)."""
    rows: list[Sequence[str]] = [HEADS]
    total = 0.0
    used = chosen_gpus(config, gpus)
    gpu, replicas = (used[0] if used else None), len(members(config, used))
    for scenario in config.scenario:
        choice = choose(config, scenario, gpu, replicas)
        for mode in (m for m in rules.MODES if m in config.mode):
            planned = make_plan(config, full_scope(config), scenario, mode, choice)
            seconds = planned.expected_seconds if choice.value else None
            total += seconds or 0.0
            minutes = "?" if seconds is None else f"{seconds / 60:.1f}"
            at = _speed(planned).removeprefix(" at ") if choice.value else "?"
            queries = f"{planned.expected_queries:,}" if choice.value or mode != "performance" else "?"
            rows.append((scenario, mode, queries, minutes, at, choice.source))
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    end = f"{duration(total)} in all, without loading, warm-up and scoring" if total else ""
    return "\n".join([*(line.rstrip() for line in lines), *([end] if end else [])])


def make_plan(config: Config, scope: Scope, scenario: str, mode: str, choice: Choice) -> Plan:
    """One run at the speed chosen for it. UsageError: memory does not hold so many queries."""
    single = scenario == rules.SINGLE_STREAM
    if mode == "performance":
        choice = within_memory(choice, scenario, scope.duration_s, free_bytes() // 2)
    return plan.make_plan(
        round=config.round,
        category=config.category,
        scenario=scenario,
        mode=mode,
        sample_count=scope.sample_count,
        full_sample_count=scope.full_sample_count,
        duration_s=scope.duration_s,
        target_qps=None if single else choice.value,
        expected_latency_ms=choice.value if single else None,
    )


def within_memory(choice: Choice, scenario: str, duration_s: float, room: int) -> Choice:
    """A speed whose queries fit into `room` bytes: a guess is lowered, the user's own is refused."""
    if choice.value is None:
        return choice
    share = plan.wanted_queries(scenario, duration_s, choice.value) * plan.BYTES_PER_QUERY / max(room, 1)
    if share <= 1:
        return choice
    most = choice.value * share if scenario == rules.SINGLE_STREAM else choice.value / share
    most = float(f"{most:.3g}")
    if choice.source != target_qps.USER:
        return replace(choice, value=most)
    name, limit = (
        ("EXPECTED_LATENCY_MS", "at least") if scenario == rules.SINGLE_STREAM else ("TARGET_QPS", "at most")
    )
    raise UsageError(
        f"{name}: expected {limit} {most:g}, since {duration_s:g} s of it must fit into the "
        f"{room / 1e9:.1f} GB of memory that can be had, found {choice.value:g}"
    )


def full_scope(config: Config) -> Scope:
    """What a GPU runs with the whole dataset at hand, which a plan is made for."""
    return scope_of(config, config.full_sample_count, on_gpu=True)


def choose(config: Config, scenario: str, gpu: Gpu | None, replicas: int = 1) -> Choice:
    """The speed that a run will take, before a model or an engine is there. `replicas`: engines like the one
    on `gpu` that share the work."""
    preset = choose_preset(config, gpu)
    path = tuned.path_of(Path(config.results_dir), config, gpu.name if gpu else None)
    digest = _model_digest(config)
    read = tuned.read if digest else tuned.read_any_model
    # Whether the calibration articles can be had, only the run will know.
    kinds = (True, False) if config.scales == AUTO else (config.scales == STATIC,)
    identities = (tuned.identity(config, digest, preset.engine, static, replicas) for static in kinds)
    entries = (read(path, identity) for identity in identities)
    values = next((entry for entry in entries if entry != tuned.NONE), tuned.NONE)
    if scenario == rules.SINGLE_STREAM:
        choice = target_qps.choose_latency_ms(config.expected_latency_ms, values)
    else:
        guess = _offline_speed(preset, gpu) if gpu else None
        offline = OfflineSpeed(replicas * guess, target_qps.ESTIMATE) if guess else None
        duration_s = full_scope(config).duration_s
        choice = target_qps.choose_qps(scenario, duration_s, config.target_qps, values, offline)
    return replace(choice, source=f"tuned ({path.name})") if choice.source == target_qps.TUNED else choice


def _model_digest(config: Config) -> str | None:
    """The SHA-256 of the official weights where they are asked for; None where only the run will know."""
    official = config.model in (AUTO, *OFFICIAL)
    return checkpoint.combined(checkpoint.SHARDS) if official else None


def _offline_speed(preset: Preset, gpu: Gpu) -> float | None:
    """Samples per second that the card will reach, by its data sheet, at the precision its preset sets."""
    card = find_gpu(gpu)
    precision = roofline.precision_of(preset.engine, card) or "fp16"
    limit = roofline.predict(card, roofline.PRECISIONS[precision]) if card else None
    return REACHED * limit.limit if limit else None
