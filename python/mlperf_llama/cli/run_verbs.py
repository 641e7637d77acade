"""The verbs that make a run: the whole of it by entrypoint.sh, and each of its steps, which that starts.

As in verbs.py every verb imports what it needs only when it runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

from .. import config
from ..config import Config
from ..credentials import misnamed_secrets, secret
from ..settings import QUIET
from . import entrypoint
from .verbs import Env, show

if TYPE_CHECKING:
    from ..records.run_folder import RunFolder


def _run_folder(arguments: argparse.Namespace) -> tuple[RunFolder, Config]:
    """The folder that --run-dir names, with the settings it was made with."""
    from ..records.run_folder import RunFolder

    run = RunFolder.open(arguments.run_dir)
    return run, run.config()


def by_entrypoint(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """run, tune and submission: several processes, which entrypoint.sh arranges."""
    words = [f"--{name.lower().replace('_', '-')}={value}" for name, value in flags.items()]
    return entrypoint.become([arguments.verb, *words], env)


def resume(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    return entrypoint.become([arguments.verb, str(arguments.folder)], env)


def create_run(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """Check the settings, make the run folder (or open one again), print it and the two chains."""
    from ..bench import create
    from ..records import lock
    from ..records.run_folder import RunFolder
    from ..sources import dataset, model
    from ..submission import preflight
    from ..tune import records as tuning

    for wrong, right in misnamed_secrets(env).items():
        print(f"warning: {wrong} is set, and nothing here reads it: {right} is the name", file=sys.stderr)
    if arguments.resume:
        with lock.held(RunFolder.open(arguments.resume).path, "resume"):
            run = create.reopen_run(arguments.resume, env)
        print(create.kept(run), file=sys.stderr)
        settings = run.config()
    else:
        settings = config.load(flags, env)
        if arguments.submission:
            settings = preflight.settings_for_submission(settings, flags, env)
        run = create.create_run(settings, env, "tune" if arguments.tune else "")
        if arguments.tune:
            tuning.begin(run, settings.search)
    show(f"run_dir={run.path}")
    show(f"dataset_chain={' '.join(dataset.chain(settings))}")
    show(f"model_chain={' '.join(model.chain(settings))}")
    return 0


def try_source(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """One source of the dataset or of the model, in a process of its own."""
    from ..bench import finalize
    from ..records import lock, seal
    from ..sources import chain, dataset, model
    from ..terminal import activity, signals

    signals.end_with_parent()
    run, settings = _run_folder(arguments)
    kind, source = arguments.verb, arguments.source
    serve = dataset.serve if kind == "dataset" else model.serve
    stage = f"{kind} {source}"
    level = config.verbosity(env, {}, settings.verbosity)
    ticking = nullcontext() if level == QUIET else activity.shown(stage, sys.stderr)
    with ticking, lock.held(run.path, stage), seal.stage(run, stage), finalize.on_interrupt(run):
        chain.attempt(run, kind, source, lambda: serve(source, settings, env))
    return 0


def execute(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """The benchmark (or the tuning) in a run folder whose dataset and model are there."""
    from ..bench import finalize
    from ..records import lock, seal

    run, settings = _run_folder(arguments)
    with lock.held(run.path, "execute"):
        # The imports take seconds on a slow disk: a signal that comes meanwhile ends the run as any other.
        with seal.stage(run, "start"), finalize.on_interrupt(run):
            from .. import report as reports
            from ..bench import execute as benchmark
            from ..bench import loadgen_runs
            from ..tune import tuner
        work = tuner.WORK if run.is_tuning else benchmark.Work(loadgen_runs.every_run, reports.terminal)
        code = benchmark.execute(run, settings, env, work, reports.write)
    show(run.path)
    return code


def finalize_run(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from ..bench import finalize
    from ..records import lock, seal
    from ..records.run_folder import RunFolder

    run = RunFolder.open(arguments.run_dir)
    with lock.held(run.path, "finalize-run"):
        if finalize.is_open(run):
            with seal.stage(run, "close"):
                finalize.finalize_run(run, arguments.status)
    return 0


def worker(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """A member of a run, on this host or another: until its head ends it."""
    from ..engine.replicas import reach
    from ..engine.replicas import worker as member
    from ..engine.replicas.protocol import TOKEN_NAME

    return member.run(reach.parse(arguments.head, secret(TOKEN_NAME, env)), arguments.member)
