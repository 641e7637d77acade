"""Every LoadGen run that a config asks for, on a loaded engine: planned, driven, recorded."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from .. import rules
from ..config import Config
from ..loadgen import drive, few, logs, plan
from ..machine import energy
from ..records import requests, seal
from ..records.run_folder import RunFolder
from ..records.schema import Accuracy, Compliance, EventFields, Expectation, Performance, Results, Scenario
from ..verdict import test06
from . import expectation, members, planner, stages, target_qps
from .session import Session
from .target_qps import OfflineSpeed
from .warm_up import Speed

# A guess that ends a run too soon is raised and the run repeated, so often.
GUESSES = 3
# What is no difference between two readings: the cache's size stays.
GAUGES = ("kv_cache_tokens",)
ModeRecord: TypeAlias = Performance | Accuracy | Compliance


async def every_run(session: Session) -> None:
    """What is missing of the runs asked for, in order."""
    speed = await session.warm_up()
    gc.collect()
    gc.freeze()
    _announce_all(session, speed)
    for scenario, mode in missing(session.run, session.config):
        await session.set_limits(scenario, mode)
        await _one_run(session, scenario, mode, speed)


def _announce_all(session: Session, speed: Speed) -> None:
    """What is still to run, and how long that takes, before the first of it starts."""
    plans = [make_plan(session, *which, speed) for which in missing(session.run, session.config)]
    session.events.emit("plan", message=planner.total(plans))


def missing(run: RunFolder, config: Config) -> list[tuple[str, str]]:
    """The runs asked for and not yet recorded, in order; a resumed folder has fewer."""
    done = run.read(Results).scenarios
    return [(s, mode) for s, mode in planner.asked(config) if getattr(done.get(s, Scenario()), mode) is None]


def _place(session: Session, scenario: str, mode: str, speed: Speed) -> EventFields:
    """Which of all runs it is, and how long those behind it take by their plans."""
    runs = planner.asked(session.config)
    left = [each for each in missing(session.run, session.config) if each != (scenario, mode)]
    seconds = [make_plan(session, *each, speed).expected_seconds or 0.0 for each in left]
    return EventFields(run=runs.index((scenario, mode)) + 1, runs=len(runs), rest_s=round(sum(seconds), 1))


def make_plan(session: Session, scenario: str, mode: str, speed: Speed) -> plan.Plan:
    """The user's speeds where given, else what tuning, an earlier run or the warm-up measured."""
    config, scope = session.config, session.scope
    if scenario == rules.SINGLE_STREAM:
        user = config.expected_latency_ms
        choice = target_qps.choose_latency_ms(user, session.tuned, speed.latency_ms)
    else:
        choice = target_qps.choose_qps(
            scenario,
            scope.duration_s,
            config.target_qps,
            session.tuned,
            OfflineSpeed(speed.samples_per_s, target_qps.WARM_UP),
            session.repeat_qps.get(scenario),
        )
    return planner.make_plan(config, scope, scenario, mode, choice)


async def _one_run(session: Session, scenario: str, mode: str, speed: Speed) -> None:
    """One LoadGen run, its record saved before the next begins."""
    run = session.run
    planned = make_plan(session, scenario, mode, speed)
    expected = _expect(session, planned, speed)
    _announce(session, planned, speed, expected)
    record = await _drive(session, planned)
    for _ in range(GUESSES):
        if not isinstance(record, Performance) or not _too_short(session, planned, record):
            break
        guess = target_qps.repeat_qps(record.samples_per_second)
        session.events.emit(f"{scenario} {mode}", message=f"too short at the guessed QPS; again at {guess}")
        session.repeat_qps[scenario] = guess
        former, planned = planned, make_plan(session, scenario, mode, speed)
        if planned.expected_queries <= former.expected_queries:
            # Memory holds no more.
            break
        _announce(session, planned, speed, expected)
        record = await _drive(session, planned)
        if isinstance(record, Performance):
            record = replace(record, repeated="the QPS was guessed too low before")
    if isinstance(record, Performance):
        record = replace(record, expected=expected)
        session.events.emit(f"{scenario} {mode}", message=expectation.after(record))
    before = run.read(Results).scenarios.get(scenario, Scenario()).engine_settings or {}
    settings = {**before, mode: session.used_settings(scenario)}
    stages.update_scenario(run, scenario, engine_settings=settings, **{mode: record})


def _expect(session: Session, planned: plan.Plan, speed: Speed) -> Expectation | None:
    """Of a performance run."""
    if planned.mode != "performance":
        return None
    gpu, engines = session.gpu if session.has_official_shape else None, len(session.members)
    return expectation.expect(planned, session.tuned, speed, session.preset, gpu, engines)


def _announce(session: Session, planned: plan.Plan, speed: Speed, expected: Expectation | None) -> None:
    """What comes: how long it takes, what is expected of it, which run of all it is."""
    words = [planner.describe(planned), *([expectation.before(expected)] if expected else [])]
    place = _place(session, planned.scenario, planned.mode, speed)
    place["message"] = "; ".join(words)
    session.events.emit(f"{planned.scenario} {planned.mode}", **place)


async def _drive(session: Session, planned: plan.Plan) -> ModeRecord:
    """Drive one plan; what LoadGen logged and what the engine counted."""
    run, scenario, mode = session.run, planned.scenario, planned.mode
    out, conf = run.log_dir(scenario, mode), _user_conf(run, planned)
    before, members_before = await session.counters(), members.counters(session)
    times = requests.path_in(run.scenario(scenario))
    written = [out, conf, *([times] if mode == "performance" else [])]
    with seal.part(run, f"{scenario} {mode}", *run.names(*written)):
        ended = await drive.drive(
            session.engine, session.samples, session.limits, planned, out, session.events, conf_path=conf
        )
        counters = _difference(before, await session.counters())
        if mode == "performance":
            requests.write(times, ended.requests)
            each = _differences(members_before, members.counters(session))
            record = logs.performance(out, scenario)
            reason = few.not_judged(logs.read_detail(out), scenario, planned.too_few) or None
            parts = await members.energy(session, ended.timed_s)
            drawn = energy.together(parts) if parts else await session.energy(ended.timed_s)
            return replace(
                record,
                counters=counters,
                driven=ended.driven,
                member_counters=each,
                member_energy=parts,
                energy=drawn,
                not_judged=reason,
            )
        if mode == "compliance":
            if planned.too_few and not test06.verify(out / logs.ACCURACY, scenario).faulty:
                return Compliance(None, counters, ended.driven, planned.too_few)
            return Compliance(test06.verify_run(run, scenario).passed, counters, ended.driven)
        return Accuracy(counters=counters, lost_members=members.losses(session), driven=ended.driven)


def _user_conf(run: RunFolder, planned: plan.Plan) -> Path:
    """Where user.conf goes: one for the scenario, and beside the logs where that of a finished performance
    run says otherwise, as a resumed run's may."""
    shared = run.scenario(planned.scenario) / "user.conf"
    finished = run.read(Results).scenarios.get(planned.scenario, Scenario()).performance
    if not finished or planned.mode == "performance" or not shared.is_file():
        return shared
    same = shared.read_text(encoding="utf-8") == plan.user_conf(planned)
    return shared if same else run.log_dir(planned.scenario, planned.mode) / "user.conf"


def _difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {key: after[key] - before.get(key, 0) for key in after if key not in GAUGES}


def _differences(
    before: Sequence[dict[str, float]] | None, after: Sequence[dict[str, float]] | None
) -> tuple[dict[str, float], ...] | None:
    """Of each member; None where there is one engine."""
    if before is None or after is None:
        return None
    return tuple(_difference(*pair) for pair in zip(before, after, strict=True))


def _too_short(session: Session, planned: plan.Plan, record: Performance) -> bool:
    """Offline sizes its query by a QPS; a guess under the engine's speed ends it too soon."""
    return (
        planned.scenario == rules.OFFLINE
        and session.config.target_qps is None
        and record.loadgen_result == "INVALID"
        and record.total_time_seconds < planned.min_duration_ms / 1000
    )
