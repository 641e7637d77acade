"""How long each run will take, said before it starts; by LoadGen's own arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from .. import rules
from ..config import Config
from ..engine import tuned
from ..engine.preset import Preset, choose_preset
from ..engine.replicas.plan import chosen_gpus, members
from ..errors import UsageError
from ..loadgen import plan
from ..loadgen.plan import Plan
from ..machine import expected, roofline
from ..machine.expected import Expected
from ..machine.gpu_table import GpuSpec, find_gpu
from ..machine.memory import free_bytes
from ..records.schema import STATIC, Gpu
from ..settings import AUTO
from ..sources.model import checkpoint
from . import target_qps
from .scope import Scope, scope_of
from .target_qps import Choice, OfflineSpeed

T = TypeVar("T")
# Where MODEL takes the official weights.
OFFICIAL = ("mlcommons", "huggingface")
# The fake engine answers at once: the rate that is guessed for it would fill any memory.
MOST_FAKE_QUERIES = 500_000
HEADS = ("scenario", "mode", "queries", "minutes", "at", "from")


def describe(planned: Plan) -> str:
    """One run's size and time."""
    time_s = planned.expected_seconds
    time = "as long as the engine takes" if time_s is None else f"about {duration(time_s)}"
    return f"{planned.expected_queries:,} queries, {time}{_speed(planned)}"


def total(plans: Sequence[Plan]) -> str:
    """Several runs in all: their number and time, and what will not be judged."""
    runs = f"{len(plans)} LoadGen run{'' if len(plans) == 1 else 's'}"
    time = duration(sum(planned.expected_seconds or 0.0 for planned in plans))
    few = [f"{planned.scenario} {planned.mode}" for planned in plans if planned.too_few]
    end = f"; shortened, with too few queries to be judged: {', '.join(few)}" if few else ""
    return f"{runs}, about {time} in all, without scoring{end}"


def duration(time_s: float) -> str:
    return f"{time_s:.0f} s" if time_s < 90 else f"{time_s / 60:.1f} min"


def _speed(planned: Plan) -> str:
    if planned.target_qps is not None:
        return f" at {planned.target_qps:g} queries/s"
    return f" at {planned.expected_latency_ms:g} ms each"


def table(config: Config, gpus: Sequence[Gpu]) -> str:
    """Every run that these settings ask for, as a full-length one (or of SAMPLES and DURATION_S)."""
    planned = every_run(config, gpus)
    rows = [HEADS, *(_row(run, choice) for run, choice in planned)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    total = sum(seconds(run, choice) or 0.0 for run, choice in planned)
    end = f"{duration(total)} in all, without loading, warm-up and scoring" if total else ""
    return "\n".join([*(line.rstrip() for line in lines), *([end] if end else [])])


def every_run(config: Config, gpus: Sequence[Gpu]) -> list[tuple[Plan, Choice]]:
    """Each LoadGen run, with the speed that it is planned at."""
    used = chosen_gpus(config, gpus)
    gpu, replicas = (used[0] if used else None), len(members(config, used))
    choices = {scenario: choose(config, scenario, gpu, replicas) for scenario in config.scenario}
    scope = full_scope(config)
    return [(make_plan(config, scope, s, mode, choices[s]), choices[s]) for s, mode in asked(config)]


def asked(config: Config) -> list[tuple[str, str]]:
    """Scenario and mode of every run, in order."""
    return [(s, mode) for s in config.scenario for mode in rules.MODES if mode in config.mode]


def total_seconds(config: Config, gpus: Sequence[Gpu]) -> float | None:
    """Seconds of all LoadGen runs; None where the speed of one is not known."""
    each = [seconds(run, choice) for run, choice in every_run(config, gpus)]
    known = [s for s in each if s is not None]
    return sum(known) if len(known) == len(each) else None


def seconds(run: Plan, choice: Choice) -> float | None:
    """How long a run will take; None where its speed is not known."""
    if not choice.value or run.expected_seconds is None:
        return None
    return run.expected_seconds * target_qps.over_expected(run.scenario, choice)


def _row(run: Plan, choice: Choice) -> tuple[str, ...]:
    """A line of the table; of a speed that only the warm-up will tell, the least that LoadGen asks for."""
    measured = run.mode == "performance"
    queries, time_s = f"{run.expected_queries:,}", seconds(run, choice)
    if time_s is not None:
        at = _speed(run).removeprefix(" at ")
        return (run.scenario, run.mode, queries, f"{time_s / 60:.1f}", at, choice.source)
    least = f"{run.sample_count:,} or more" if measured else queries
    minutes = f"{run.min_duration_ms / 60_000:.0f} or more" if measured else "by its speed"
    return (run.scenario, run.mode, least, minutes, "not known yet", choice.source)


def make_plan(config: Config, scope: Scope, scenario: str, mode: str, choice: Choice) -> Plan:
    """One run at the speed chosen for it. UsageError: memory does not hold so many queries."""
    single = scenario == rules.SINGLE_STREAM
    if mode == "performance":
        room = free_bytes() // 2
        if config.engine == "fake" and choice.source != target_qps.USER:
            room = min(room, MOST_FAKE_QUERIES * plan.BYTES_PER_QUERY)
        choice = within_memory(choice, scenario, scope.duration_s, room)
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
        likely_ms = expected_latency_ms(preset, gpu) if gpu else None
        choice = target_qps.choose_latency_ms(config.expected_latency_ms, values, likely_ms)
        if likely_ms and choice.source == target_qps.WARM_UP:
            choice = replace(choice, source=target_qps.ESTIMATE)
    else:
        guess = expected_speed(preset, gpu) if gpu else None
        offline = OfflineSpeed(replicas * guess.middle, target_qps.ESTIMATE) if guess else None
        duration_s = full_scope(config).duration_s
        choice = target_qps.choose_qps(scenario, duration_s, config.target_qps, values, offline)
    return replace(choice, source=f"tuned ({path.name})") if choice.source == target_qps.TUNED else choice


def _model_digest(config: Config) -> str | None:
    """The SHA-256 of the official weights where they are asked for; None where only the run will know."""
    official = config.model in (AUTO, *OFFICIAL)
    return checkpoint.combined(checkpoint.SHARDS) if official else None


def expected_speed(preset: Preset, gpu: Gpu) -> Expected | None:
    """What one such GPU is expected to reach in Offline, with the precision and the kernels of its preset."""
    return _on_card(expected.offline, preset, gpu)


def expected_latency_ms(preset: Preset, gpu: Gpu) -> float | None:
    """What one answer of SingleStream is expected to take on such a GPU."""
    return _on_card(expected.single_stream_ms, preset, gpu)


def _on_card(figure: Callable[[GpuSpec, str, str], T | None], preset: Preset, gpu: Gpu) -> T | None:
    """A figure of the card with the preset's precision and kernels; None of a card that is not known."""
    card = find_gpu(gpu)
    precision = roofline.precision_of(preset.engine, card) or "fp16"
    return figure(card, precision, expected.kernels_of(preset.engine)) if card else None
