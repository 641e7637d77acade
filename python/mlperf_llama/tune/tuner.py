"""`make tune`: probes and confirmations on an engine that is loaded once.

What to try next is search.py's; what a probe tells of a full-length run, forecast.py's. Each
probe is recorded as soon as it has ended, so a tuning that was stopped goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime

from .. import rules
from ..bench import members, target_qps
from ..bench.execute import Work
from ..bench.session import Session
from ..bench.target_qps import OfflineSpeed
from ..bench.warm_up import Speed
from ..engine import tuned
from ..engine.settings import apply_tuned
from ..errors import BrokeError, InvalidError
from . import grid, probes, records, table
from .estimate import CONFIRM
from .records import EngineSearch, MeasuredPoint, Probe, Tuning
from .search import STOP, Step, next_step
from .state import state

QPS, ENGINE = "qps", "engine"


def raise_ceilings(session: Session) -> None:
    """Before loading: headroom above the present settings for the points of the grid."""
    if ENGINE in session.run.read(Tuning).search:
        session.raise_ceilings(grid.ceilings(_centre(session)))


def _own(session: Session) -> grid.Point:
    """What the engine is loaded with where no search raises it."""
    return grid.start(apply_tuned(session.preset, session.tuned))


def _centre(session: Session) -> grid.Point:
    """The limits of Offline as they are: its own, else the engine's."""
    own, offline = _own(session), session.settings.scenarios[rules.OFFLINE]
    return grid.Point(offline.max_num_seqs or own.seats, offline.prefill_tokens or own.tokens)


async def every_search(session: Session) -> None:
    """Everything asked for and not yet found. InvalidError where a scenario has no answer."""
    speed = await session.warm_up()
    search = session.run.read(Tuning).search
    if ENGINE in search:
        await _engine_search(session, speed)
    if QPS not in search:
        return
    unanswered = []
    for scenario in session.config.scenario:
        if records.scenario(session.run, scenario).ended:
            continue
        await session.set_limits(scenario)
        if scenario in rules.TOKEN_LATENCY_LIMITS_MS:
            answer = await _search(session, scenario, speed)
        else:
            answer = await _measured(session, scenario, speed)
        if answer is None:
            unanswered.append(scenario)
    if unanswered:
        names = ", ".join(unanswered)
        raise InvalidError(f"{names}: expected a VALID load, found none; {session.run.file(Tuning.FILE)}")


async def _search(session: Session, scenario: str, speed: Speed) -> float | None:
    """The highest load of Server or Interactive that a full-length run confirms."""
    run, goal = session.run, probes.goal_of(session, scenario)
    records.put(run, scenario, ttft_limit_ms=goal.ttft_ms, tpot_limit_ms=goal.tpot_ms)
    first = await _first_load(session, scenario, speed)
    while True:
        probes_so_far = records.scenario(run, scenario).probes or ()
        step = next_step(records.history(probes_so_far, goal), goal, first)
        if step.kind == STOP:
            return _conclude(session, scenario, step)
        qps = float(f"{step.qps:.4g}")
        session.events.emit(
            f"{scenario} {step.kind}",
            message=f"{qps:g} queries/s: {step.reason}",
            search=state(probes_so_far, step, goal, session.config.probe_s),
        )
        # One member tells most; from the first full-length run on all answer.
        alone = not any(probe.kind == CONFIRM for probe in probes_so_far) and step.kind != CONFIRM
        probe = await probes.run_one(session, step.kind, scenario, qps, alone)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        records.add_probe(run, scenario, replace(probe, finished=now, reason=step.reason))
        session.events.emit(f"{scenario} {step.kind}", message=table.line(probe))
        if step.kind == CONFIRM and probe.valid:
            # At once: a search that is stopped has found this much. The answer, saved last, may be lower.
            _save_confirmed(session, scenario, probe)
        if probe.error:
            await session.restart(probe.error)
            await session.warm_up()
            await session.set_limits(scenario)


async def _first_load(session: Session, scenario: str, speed: Speed) -> float:
    """The user's, else a share of the Offline speed, which a short run tells."""
    run, user = session.run, session.config.target_qps
    measured = records.scenario(run, scenario).offline_qps
    if not user and measured is None:
        measured = await probes.offline_speed(session, speed.samples_per_s, scenario)
        records.put(run, scenario, offline_qps=measured)
    return _choose(session, scenario, user, measured)


def _choose(session: Session, scenario: str, user: float | None, measured: float | None) -> float:
    offline = OfflineSpeed(measured, target_qps.SHORT_RUN) if measured else None
    choice = target_qps.choose_qps(scenario, session.scope.duration_s, user, offline=offline)
    assert choice.value is not None
    return choice.value


def _conclude(session: Session, scenario: str, step: Step) -> float | None:
    """Record the answer, and keep it for later runs."""
    run = session.run
    tried = records.scenario(run, scenario).probes or ()
    minutes = sum(probe.seconds or 0.0 for probe in tried) / 60
    records.put(run, scenario, answer=step.answer, reason=step.reason, minutes=round(minutes, 1))
    if step.answer is None:
        return None
    confirmed = next(p for p in reversed(tried) if p.kind == CONFIRM and p.qps == step.answer)
    _save_confirmed(session, scenario, confirmed)
    return step.answer


def _save_confirmed(session: Session, scenario: str, probe: Probe) -> None:
    assert probe.ttft_p99_ms is not None and probe.tpot_p99_ms is not None
    _save(
        session,
        scenario,
        target_qps=probe.qps,
        ttft_p99_ms=round(probe.ttft_p99_ms, 1),
        tpot_p99_ms=round(probe.tpot_p99_ms, 2),
    )


async def _measured(session: Session, scenario: str, speed: Speed) -> float:
    """Offline and SingleStream have no limit to search for: one short run tells."""
    started = time.monotonic()
    if scenario == rules.SINGLE_STREAM:
        measured = await probes.single_latency_ms(session, speed.latency_ms)
        _save(session, scenario, expected_latency_ms=float(f"{measured:.4g}"))
    else:
        measured = await probes.offline_speed(session, speed.samples_per_s, scenario)
        _save(session, scenario, target_qps=_choose(session, scenario, None, measured))
    minutes = round((time.monotonic() - started) / 60, 1)
    records.put(session.run, scenario, answer=measured, minutes=minutes)
    return measured


def _save(session: Session, scenario: str, **values: float) -> None:
    """`duration_s`: the length of run the value was found for; a longer one may not hold it."""
    seconds = session.scope.duration_s
    kept = tuned.read(session.tuned_path, session.identity).scenarios.get(scenario, {})
    limits = {k: kept[k] for k in tuned.LIMITS if k in kept}
    record = {**limits, **values, "duration_s": seconds, "run": session.run.path.name}
    tuned.save(session.tuned_path, session.identity, scenario, record)


async def _engine_search(session: Session, speed: Speed) -> None:
    """The fastest point of the grid, kept for later runs and used from here on."""
    run = session.run
    setter = getattr(session.engine, "set_limits", None)
    before = run.read(Tuning).engine or EngineSearch()
    if before.best:
        return
    centre = before.centre or _centre(session)
    points = before.points
    measured = {p.point: p.samples_per_s for p in points}
    while (point := grid.next_point(measured, centre)) is not None:
        if setter is not None:
            await setter(point.seats, point.tokens)
        try:
            with members.one_alone(session) as times:
                measured[point] = await probes.offline_speed(session, speed.samples_per_s / times, "engine")
        except BrokeError as error:
            measured[point] = 0.0
            await session.restart(str(error))
            await session.warm_up()
        text = f"{point.seats} sequences, {point.tokens} tokens per step: {measured[point]:.2f} samples/s"
        session.events.emit("engine search", message=text)
        points = tuple(MeasuredPoint(p.seats, p.tokens, v) for p, v in measured.items())
        run.update(Tuning, engine=EngineSearch(centre, points))
    best = grid.best(measured, centre)
    # Offline takes the point; the other scenarios keep theirs, so the engine stays large enough.
    own = _own(session)
    engine = {
        "max_num_seqs": max(own.seats, best.seats),
        "max_num_batched_tokens": max(own.tokens, best.tokens),
    }
    tuned.save(session.tuned_path, session.identity, "engine", engine)
    limits = {"max_num_seqs": best.seats, "prefill_tokens": best.tokens}
    tuned.save(session.tuned_path, session.identity, rules.OFFLINE, limits)
    session.tuned = tuned.read(session.tuned_path, session.identity)
    confirmed = await _whole(session, best, measured[best])
    run.update(Tuning, engine=replace(confirmed, centre=centre, points=points, best=best))


async def _whole(session: Session, best: grid.Point, samples_per_s: float) -> EngineSearch:
    """All members at the point at which one of them reached this speed; empty where one engine is all."""
    times = members.alike(session)
    if times == 1:
        return EngineSearch()
    setter = getattr(session.engine, "set_limits", None)
    if setter is not None:
        await setter(best.seats, best.tokens)
    whole = await probes.offline_speed(session, times * samples_per_s, "engine")
    share = whole / (times * samples_per_s) if samples_per_s else 0.0
    text = f"all {times} members: {whole:.2f} samples/s, {share:.3f} of {times} times one"
    session.events.emit("engine search", message=text)
    return EngineSearch(members=times, whole_samples_per_s=whole)


WORK = Work(every_search, lambda run, _colour: table.render(run), raise_ceilings)
