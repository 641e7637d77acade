"""The benchmark in an opened run folder: engine, LoadGen runs, score, verdict, report."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .. import report, rules
from ..config import Config
from ..errors import EXIT_INVALID, EXIT_OK, BrokeError, Interrupted, PipelineError
from ..loadgen import drive, logs, plan
from ..machine.gpus import GpuSampler
from ..records import seal
from ..records.events import Events
from ..records.run_folder import COMPLETE, FAILED, INTERRUPTED, RunFolder
from ..terminal import console, signals
from ..terminal.progress import TerminalProgress, colour_wanted
from ..tune import records, table, tuner
from . import finalize, planner, stages
from .scope import describe_scope
from .session import Session, end_children
from .warm_up import Speed

log = logging.getLogger(__name__)

# Probes measure short runs: a full one is faster (no ramp). Too high a guess only lengthens it.
OFFLINE_MARGIN = 1.25
# A guess that ends a run too soon is raised and the run repeated, so often.
GUESSES = 3
# Without tuning, a load that any engine carries within the latency limits.
SERVER_SHARE = 0.6


def execute(run: RunFolder, config: Config, env: Mapping[str, str]) -> int:
    """Run everything the config asks for; returns the exit code. Finished runs are kept."""
    with console.captured(run.file("run.log")) as terminal, GpuSampler() as sampler:
        progress = TerminalProgress(terminal, env)
        events = Events(run, progress, gpu=lambda: sampler.latest)
        try:
            with seal.stage(run, "run"):
                if records.is_tuning(run):
                    asyncio.run(_loadgen_runs(run, config, events, tuner.every_search))
                elif missing(run, config):
                    asyncio.run(_loadgen_runs(run, config, events, _every_run))
            with seal.stage(run, "score"):
                stages.score_all(run, config, env, lambda s, d, n: events.emit(f"score {s}", done=d, total=n))
                finalize.close(run, COMPLETE)
            stages.judge_and_report(run)
        except BaseException as error:
            signals.ignore()
            end_children()
            _salvage(run, error)
            raise _named(run, error) from error
        finally:
            progress.close()
            events.close()
        tuning = records.is_tuning(run)
        words = table.render(run) if tuning else report.terminal(run, colour_wanted(terminal, env))
        print(words, file=terminal)
    return exit_code(run)


def _salvage(run: RunFolder, error: BaseException) -> None:
    """Close the folder with what there is; a full disk must not hide the first failure."""
    try:
        interrupted = isinstance(error, Interrupted)
        with seal.stage(run, "close"):
            finalize.close(run, INTERRUPTED if interrupted else FAILED, str(error))
        stages.judge_and_report(run)
    except (OSError, PipelineError) as second:
        log.warning("close_failed error=%r", second)


def _named(run: RunFolder, error: BaseException) -> BaseException:
    """An engine's failure with its root cause out of run.log."""
    if not isinstance(error, BrokeError):
        return error
    cause = console.last_fault(run.file("run.log"))
    known = cause and cause not in str(error)
    return BrokeError(f"{error}{f' ({cause})' if known else ''}; see {run.file('run.log')}")


def exit_code(run: RunFolder) -> int:
    """5 where LoadGen said INVALID, or an eligible run missed a target; else 0."""
    scenarios = run.read("results.json")["scenarios"].values()
    provenance = run.read("provenance.json")
    eligible = all(provenance[kind]["eligible"] for kind in ("dataset", "model"))
    eligible = eligible and not run.read("config.json").get("ignore_eos")
    invalid = any(s.get("performance", {}).get("loadgen_result") == "INVALID" for s in scenarios)
    missed = any(s.get("accuracy", {}).get("passed") is False for s in scenarios)
    return EXIT_INVALID if invalid or (missed and eligible) else EXIT_OK


@contextmanager
def _cancelled_by_signals(task: asyncio.Task[None]) -> Iterator[list[int]]:
    """Inside the loop a signal cancels the task; outside it raises Interrupted again."""
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def stop(number: int) -> None:
        seen.append(number)
        task.cancel()

    for number in signals.STOPPING:
        loop.add_signal_handler(number, stop, number)
    try:
        yield seen
    finally:
        for number in signals.STOPPING:
            loop.remove_signal_handler(number)
        signals.install()


async def _loadgen_runs(
    run: RunFolder, config: Config, events: Events, body: Callable[[Session], Awaitable[None]]
) -> None:
    session = Session(run, config, events)
    if records.is_tuning(run):
        tuner.raise_ceilings(session)
    run.merge("provenance.json", **describe_scope(session.scope))
    try:
        await session.start()
        task = asyncio.current_task()
        assert task is not None
        with _cancelled_by_signals(task) as seen:
            try:
                await body(session)
            except asyncio.CancelledError:
                if seen:
                    raise Interrupted(seen[0]) from None
                raise
    finally:
        await session.close()


async def _every_run(session: Session) -> None:
    speed = await session.warm_up()
    gc.collect()
    gc.freeze()
    for scenario, mode in missing(session.run, session.config):
        await session.set_limits(scenario)
        await _one_run(session, scenario, mode, speed)


def missing(run: RunFolder, config: Config) -> list[tuple[str, str]]:
    """The runs asked for and not yet recorded, in order; a resumed folder has fewer."""
    done = run.read("results.json")["scenarios"]
    asked = [(s, m) for s in config.scenario for m in rules.MODES if m in config.mode]
    return [(scenario, mode) for scenario, mode in asked if mode not in done.get(scenario, {})]


def make_plan(session: Session, scenario: str, mode: str, speed: Speed) -> plan.Plan:
    """The user's speeds where given, else what the warm-up or an earlier run measured."""
    config = session.config
    share = OFFLINE_MARGIN if scenario == rules.OFFLINE else SERVER_SHARE
    measured = session.guessed_qps.get(scenario) or session.tuned.target_qps(
        scenario, session.scope.duration_s
    )
    guess = measured or _rounded(speed.samples_per_s * share)
    latency = config.expected_latency_ms or session.tuned.expected_latency_ms(scenario)
    single = scenario == rules.SINGLE_STREAM
    return plan.make_plan(
        round=config.round,
        category=config.category,
        scenario=scenario,
        mode=mode,
        sample_count=session.scope.sample_count,
        full_sample_count=session.scope.full_sample_count,
        duration_s=session.scope.duration_s,
        target_qps=None if single else config.target_qps or guess,
        expected_latency_ms=(latency or _rounded(speed.latency_ms)) if single else None,
    )


def _rounded(value: float) -> float:
    return float(f"{max(value, 1e-3):.3g}")


async def _one_run(session: Session, scenario: str, mode: str, speed: Speed) -> None:
    """One LoadGen run, its record saved before the next begins."""
    run = session.run
    planned = make_plan(session, scenario, mode, speed)
    record = await _driven(session, planned)
    for _ in range(GUESSES):
        if mode != "performance" or not _too_short(session, planned, record):
            break
        guess = _rounded(record["samples_per_second"] * OFFLINE_MARGIN)
        session.events.emit(f"{scenario} {mode}", message=f"too short at the guessed QPS; again at {guess}")
        session.guessed_qps[scenario] = guess
        planned = make_plan(session, scenario, mode, speed)
        record = {**await _driven(session, planned), "repeated": "the QPS was guessed too low before"}
    settings = dict(run.read("results.json")["scenarios"].get(scenario, {}).get("engine_settings", {}))
    settings[mode] = session.settings(scenario)
    stages.merge_scenario(run, scenario, engine_settings=settings, **{mode: record})


async def _driven(session: Session, planned: plan.Plan) -> dict[str, Any]:
    """Drive one plan; what LoadGen logged and what the engine counted."""
    run, scenario, mode = session.run, planned.scenario, planned.mode
    out, conf = run.log_dir(scenario, mode), run.scenario(scenario) / "user.conf"
    session.events.emit(f"{scenario} {mode}", message=planner.words(planned))
    before = await session.counters()
    await drive.drive(
        session.engine, session.samples, session.limits, planned, out, session.events, conf_path=conf
    )
    after = await session.counters()
    spent = {key: after[key] - before.get(key, 0) for key in after if key != "kv_cache_tokens"}
    record: dict[str, Any] = {"counters": spent}
    if mode == "performance":
        return {**logs.performance(out, scenario), **record}
    if mode == "compliance":
        from .. import submission

        return {"passed": submission.verify_test06(run, scenario).passed, **record}
    return record


def _too_short(session: Session, planned: plan.Plan, record: Mapping[str, Any]) -> bool:
    """Offline sizes its query by a QPS; a guess under the engine's speed ends it too soon."""
    return (
        planned.scenario == rules.OFFLINE
        and session.config.target_qps is None
        and record["loadgen_result"] == "INVALID"
        and record["total_time_seconds"] < planned.min_duration_ms / 1000
    )
