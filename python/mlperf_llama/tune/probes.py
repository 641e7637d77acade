"""Short runs through real LoadGen, and the full-length ones that confirm them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .. import rules
from ..bench import members
from ..bench.session import Session
from ..engine import Tokens
from ..errors import BrokeError
from ..loadgen import drive, few, logs, plan
from ..loadgen.plan import Plan
from ..loadgen.relay import SampleSource
from ..records import seal
from . import records
from .clock import ClockedEngine
from .estimate import CONFIRM
from .forecast import QUANTILE, Goal, forecast
from .records import Probe

# Fewer requests than this tell nothing of their 99th percentile (LoadGen asks for 459).
LEAST_QUERIES = 500
# Offline runs until one lasts about as long as wanted.
GUESSES = 3


class Subset:
    """`count` of the samples, their lengths spread as in the whole set."""

    def __init__(self, samples: SampleSource, count: int) -> None:
        order = np.argsort(np.asarray(samples.lengths), kind="stable")
        picks = order[np.linspace(0, len(order) - 1, count).round().astype(int)]
        self._indices = np.random.default_rng(count).permutation(picks)
        self._samples = samples
        self.count = count

    @property
    def lengths(self) -> Sequence[int]:
        return [int(self._samples.lengths[i]) for i in self._indices]

    def prompt(self, index: int) -> Tokens:
        prompt: Tokens = self._samples.prompt(int(self._indices[index]))
        return prompt


def goal_of(session: Session, scenario: str) -> Goal:
    """The full-length run of a scenario in this session."""
    ttft_ms, tpot_ms = rules.TOKEN_LATENCY_LIMITS_MS[scenario]
    seed = rules.ROUNDS[session.config.round].schedule_rng_seed
    scope = session.scope
    return Goal(ttft_ms, tpot_ms, seed, scope.sample_count, scope.duration_s)


def plan_of(
    session: Session,
    scenario: str,
    *,
    sample_count: int | None = None,
    duration_s: float | None = None,
    target_qps: float | None = None,
    expected_latency_ms: float | None = None,
) -> Plan:
    """A performance run of the session's category and round, by default of its full length."""
    scope, config = session.scope, session.config
    return plan.make_plan(
        round=config.round,
        category=config.category,
        scenario=scenario,
        mode="performance",
        sample_count=scope.sample_count if sample_count is None else sample_count,
        full_sample_count=scope.full_sample_count,
        duration_s=scope.duration_s if duration_s is None else duration_s,
        target_qps=target_qps,
        expected_latency_ms=expected_latency_ms,
    )


def probe_plan(session: Session, scenario: str, qps: float) -> Plan:
    """A short run at a load: as many queries as are due in PROBE_S, and enough to judge by."""
    seconds = max(session.config.probe_s, LEAST_QUERIES / qps)
    seed = rules.ROUNDS[session.config.round].schedule_rng_seed
    due = plan.schedule_ns(seed, qps, int(2 * qps * seconds) + 100) / 1e9
    queries = max(LEAST_QUERIES, int(np.searchsorted(due, seconds)) + 1)
    passes = math.ceil(queries / session.samples.count)
    # The run ends with the pass in which its time is up: the last query ends both.
    return plan_of(
        session,
        scenario,
        sample_count=math.ceil(queries / passes),
        duration_s=0.9 * float(due[queries - 1]),
        target_qps=qps,
    )


async def run_one(session: Session, kind: str, scenario: str, qps: float, one_member: bool = False) -> Probe:
    """A probe or a confirmation; a crash is a record too. Interruptions pass through. `one_member`: one of
    several, at its share of the load, where they are alike."""
    with members.one_alone(session, one_member) as times:
        return await _run_one(session, kind, scenario, qps, times)


async def _run_one(session: Session, kind: str, scenario: str, qps: float, times: int) -> Probe:
    """With 1 / `times` of the load."""
    full, load = kind == CONFIRM, qps / times
    planned = plan_of(session, scenario, target_qps=load) if full else probe_plan(session, scenario, load)
    folder = records.next_folder(session.run, scenario)
    probe = Probe(
        kind,
        qps,
        planned.expected_queries,
        str(folder.relative_to(session.run.path)),
        member_qps=load if times > 1 else None,
    )
    started = time.monotonic()
    clock = ClockedEngine(session.engine)
    samples = session.samples if full else Subset(session.samples, planned.sample_count)
    stage = f"{scenario} {kind} {folder.name[-2:]}"
    try:
        before = await session.counters()
        with seal.part(session.run, stage, *session.run.names(folder)):
            await drive.drive(clock, samples, session.limits, planned, folder, session.events, stage=stage)
        after = await session.counters()
        measured = logs.performance(folder, scenario)
        requests = clock.requests()
        own_ms = float(np.quantile(requests.ttft_ms, QUANTILE))
        overhead_ms = max(0.0, (measured.ttft_p99_ms or 0.0) - own_ms)
        predicted = forecast(requests, load, goal_of(session, scenario), overhead_ms, whole=full)
    except BrokeError as error:
        return replace(probe, seconds=round(time.monotonic() - started, 1), error=str(error))
    return replace(
        probe,
        seconds=round(time.monotonic() - started, 1),
        loadgen_result=measured.loadgen_result,
        ttft_p99_ms=measured.ttft_p99_ms,
        tpot_p99_ms=measured.tpot_p99_ms,
        samples_per_second=measured.samples_per_second,
        tokens_per_second=measured.tokens_per_second,
        preemptions=after.get("preemptions", 0) - before.get("preemptions", 0),
        forecast=predicted.times(times),
    )


async def offline_speed(session: Session, guess: float, name: str) -> float:
    """Samples per second of a short Offline run; where that was over at once, of a longer one."""
    wanted_s = session.config.probe_s / 2
    for _ in range(GUESSES):
        count = min(session.samples.count, max(64, int(guess * wanted_s)))
        guess, seconds = await _offline_run(session, guess, count, name)
        if seconds >= wanted_s / 2 or count == session.samples.count:
            break
    return guess


async def _offline_run(session: Session, guess: float, count: int, name: str) -> tuple[float, float]:
    """Samples per second, and seconds."""
    planned = plan_of(session, rules.OFFLINE, sample_count=count, duration_s=0.0, target_qps=guess)
    folder = records.next_folder(session.run, name)
    samples = Subset(session.samples, count)
    stage = f"{name} Offline speed"
    await _drive(session, samples, planned, folder, stage)
    measured = logs.performance(folder, rules.OFFLINE)
    return measured.samples_per_second, measured.total_time_seconds


async def single_latency_ms(session: Session, guess_ms: float) -> float:
    """The mean latency of a short SingleStream run."""
    name = rules.SINGLE_STREAM
    count = min(session.samples.count, few.EARLY_STOPPING_QUERIES[name])
    planned = plan_of(session, name, sample_count=count, duration_s=0.0, expected_latency_ms=guess_ms)
    folder = records.next_folder(session.run, name)
    samples = Subset(session.samples, count)
    await _drive(session, samples, planned, folder, f"{name} latency")
    measured = logs.performance(folder, name)
    return 1000 * measured.total_time_seconds / measured.samples_processed


async def _drive(session: Session, samples: SampleSource, planned: Plan, folder: Path, stage: str) -> None:
    """A short run, its logs sealed when it has ended."""
    engine, limits, events = session.engine, session.limits, session.events
    with seal.part(session.run, stage, *session.run.names(folder)):
        await drive.drive(engine, samples, limits, planned, folder, events, stage=stage)
