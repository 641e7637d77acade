"""The benchmark in the folder of a run: engine, LoadGen runs, score, verdict, report."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from .. import rules
from ..config import Config, secret, verbosity
from ..credentials import redaction
from ..engine import importing
from ..errors import EXIT_INVALID, EXIT_OK, MEANINGS, BrokeError, Interrupted, PipelineError
from ..machine import needs
from ..machine.gpu_sampler import GpuSampler
from ..machine.processes import end_children
from ..records import seal
from ..records.events import Events
from ..records.run_folder import RunFolder
from ..records.schema import COMPLETE, FAILED, INTERRUPTED, Provenance, Results, System
from ..settings import DEBUG, QUIET
from ..terminal import console, signals
from ..terminal.aside import Aside
from ..terminal.member_lines import MemberLines
from ..terminal.progress import TerminalProgress
from ..terminal.style import colour_wanted
from . import command, early_import, environment_record, finalize, loadgen_runs, members, scales, stages
from .scope import record_scope
from .session import Session

log = logging.getLogger(__name__)

# A run that ends early waits so long for libraries that are still being loaded.
LONGEST_IMPORT_S = 30.0


@dataclass(frozen=True)
class Work:
    """What is done with a loaded engine. `prepare`: before it is loaded. `summarize`: at the end, for
    the terminal, with or without colour."""

    measure: Callable[[Session], Awaitable[None]]
    summarize: Callable[[RunFolder, bool], str]
    prepare: Callable[[Session], None] | None = None


def execute(
    run: RunFolder, config: Config, env: Mapping[str, str], work: Work, write_report: stages.WriteReport
) -> int:
    """Do everything the config asks for; returns the exit code. Finished runs are kept."""
    gpus, given = run.read(System).gpus, dict(os.environ)
    # Members read their own, wherever they are; servers read theirs for nobody.
    sampled = () if members.several(run, config) or config.endpoints else gpus
    level = verbosity(env, {}, config.verbosity)
    # A line that is redrawn and a log that goes by do not go together.
    shown = {**env, "TERM": "dumb"} if level == DEBUG else env
    log_file = run.file("run.log")
    with console.captured(log_file, follow=level == DEBUG) as terminal, GpuSampler(sampled) as sampler:
        progress = Aside(TerminalProgress(terminal, shown, log=log_file, gpus=gpus, quiet=level == QUIET))
        listeners = (progress, MemberLines(terminal)) if level == DEBUG else (progress,)
        events = Events(run, *listeners, gpu=lambda: sampler.latest)
        try:
            with seal.stage(run, seal.MEASURED):
                if run.is_tuning or loadgen_runs.missing(run, config):
                    early_import.begin(run, config)
                    scales.provide(run, config, env, events)
                    asyncio.run(_measure(run, config, env, events, work, given, sampler))
            with seal.stage(run, "score"):
                stages.score_all(run, config, env, lambda s, d, n: events.emit(f"score {s}", done=d, total=n))
                finalize.finalize_run(run, COMPLETE)
            if unsigned := stages.sign_if_asked(run):
                events.emit("sign", message=unsigned)
            stages.judge_and_report(run, write_report)
        except BaseException as error:
            signals.ignore()
            end_children()
            _salvage(run, error, write_report)
            raise _with_cause(run, error) from error
        finally:
            progress.close()
            events.close()
            importing.VLLM.wait(LONGEST_IMPORT_S)
        code = exit_code(run)
        print(redaction.text(work.summarize(run, colour_wanted(terminal, env))), file=terminal)
        print(_last_words(run, code), file=terminal)
    return code


def _last_words(run: RunFolder, code: int) -> str:
    """The exit code in words, and the command that makes this run again."""
    again = redaction.text(command.again(run.config(), "tune" if run.is_tuning else "run"))
    return f"exit code {code}: {MEANINGS[code]}\nthe same again: {again}"


def _salvage(run: RunFolder, error: BaseException, write_report: stages.WriteReport) -> None:
    """End the folder with what there is; a full disk must not hide the first failure."""
    try:
        interrupted = isinstance(error, Interrupted)
        with seal.stage(run, "close"):
            finalize.finalize_run(run, INTERRUPTED if interrupted else FAILED, str(error))
        stages.judge_and_report(run, write_report)
    except (OSError, PipelineError) as second:
        log.warning("finalize_failed error=%r", second)


def _with_cause(run: RunFolder, error: BaseException) -> BaseException:
    """An engine's failure with its root cause out of run.log."""
    if not isinstance(error, BrokeError):
        return error
    cause = console.last_fault(run.file("run.log"))
    known = cause and cause not in str(error)
    return BrokeError(f"{error}{f' ({cause})' if known else ''}; see {run.file('run.log')}")


def exit_code(run: RunFolder) -> int:
    """5 where a judged run is INVALID by LoadGen, or an eligible run missed a target; else 0."""
    scenarios = run.read(Results).scenarios.values()
    provenance = run.read(Provenance)
    eligible = all(p is not None and p.eligible for p in (provenance.dataset, provenance.model))
    eligible = eligible and (provenance.articles is None or bool(provenance.articles.eligible))
    eligible = eligible and not run.config().ignore_eos and not run.config().endpoints
    invalid = any(s.performance and s.performance.validity == "INVALID" for s in scenarios)
    missed = any(s.accuracy and s.accuracy.passed is False for s in scenarios)
    return EXIT_INVALID if invalid or (missed and eligible) else EXIT_OK


@contextmanager
def _cancelled_by_signals(task: asyncio.Task[None]) -> Iterator[list[int]]:
    """Inside the loop a signal cancels the task; outside it raises Interrupted again."""
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in signals.STOPPING:
        loop.add_signal_handler(number, stop, number)
    try:
        yield received
    finally:
        for number in signals.STOPPING:
            loop.remove_signal_handler(number)
        signals.install()


async def _measure(
    run: RunFolder,
    config: Config,
    env: Mapping[str, str],
    events: Events,
    work: Work,
    given: Mapping[str, str],
    sampler: GpuSampler,
) -> None:
    needs.check(config)
    async with members.placed(run, config, env) as placed:
        key = secret("ENDPOINT_API_KEY", env) if config.endpoints else None
        await _measure_with(Session(run, config, events, placed, sampler, key), work, given)


async def _measure_with(session: Session, work: Work, given: Mapping[str, str]) -> None:
    if work.prepare:
        work.prepare(session)
    run, config = session.run, session.config
    record_scope(run, session.scope)
    version = rules.ROUNDS[config.round].loadgen_version
    thorough = not session.scope.shortened
    environment = environment_record.Recorder(run, config.engine, version, given, thorough)
    try:
        await session.start()
        environment.add(await asyncio.to_thread(environment.wait))
        task = asyncio.current_task()
        assert task is not None
        with _cancelled_by_signals(task) as received:
            try:
                await work.measure(session)
            except asyncio.CancelledError:
                if received:
                    raise Interrupted(received[0]) from None
                raise
    finally:
        await session.close()
