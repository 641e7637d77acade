"""What each verb does: parsed arguments -> exit code.

Every verb imports what it needs only when it runs: `doctor`, `health` and each --help work with a Python
that has no package installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .. import config
from ..config import Config
from ..credentials import misnamed_secrets, secret
from . import entrypoint, env_example

if TYPE_CHECKING:
    from ..records.run_folder import RunFolder

Env = Mapping[str, str]


def _print(text: object) -> None:
    print(text, flush=True)


def _run_folder(arguments: argparse.Namespace) -> tuple[RunFolder, Config]:
    """The folder that --run-dir names, with the settings it was made with."""
    from ..records.run_folder import RunFolder

    run = RunFolder.open(arguments.run_dir)
    return run, run.config()


def _run_or_latest(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> RunFolder:
    from ..records.run_folder import RunFolder

    if arguments.run_dir:
        return RunFolder.open(arguments.run_dir)
    return RunFolder.open((Path(config.load(flags, env).results_dir) / "latest").resolve())


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

    for given, right in misnamed_secrets(env).items():
        print(f"warning: {given} is set, and nothing here reads it: {right} is the name", file=sys.stderr)
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
    _print(f"run_dir={run.path}")
    _print(f"dataset_chain={' '.join(dataset.chain(settings))}")
    _print(f"model_chain={' '.join(model.chain(settings))}")
    return 0


def try_source(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """One source of the dataset or of the model, in a process of its own."""
    from ..bench import finalize
    from ..records import lock, seal
    from ..sources import chain, dataset, model
    from ..terminal import activity

    run, settings = _run_folder(arguments)
    kind, source = arguments.verb, arguments.source
    serve = dataset.serve if kind == "dataset" else model.serve
    stage = f"{kind} {source}"
    ticking = activity.shown(stage, sys.stderr)
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
    _print(run.path)
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


def plan(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """Before anything starts: queries and minutes by LoadGen's own arithmetic."""
    from ..bench import planner
    from ..machine import gpus

    _print(planner.table(config.load(flags, env), gpus.describe(env).gpus))
    return 0


def score(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from .. import report as reports
    from ..bench import stages
    from ..records import lock, seal

    run = _run_or_latest(arguments, flags, env)
    with lock.held(run.path, "score"):
        with seal.stage(run, "score again"):
            stages.score_all(run, run.config(), env)
        if unsigned := stages.sign_if_asked(run):
            print(f"score: {unsigned}", file=sys.stderr)
        stages.judge_and_report(run, reports.write)
    _print(run.path)
    return 0


def verdict(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from .. import report as reports
    from ..bench import stages

    run = _run_or_latest(arguments, flags, env)
    stages.judge_and_report(run, reports.write)
    _print(run.file("verdict.json"))
    return 0


def report(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from .. import report as reports
    from ..bench import stages

    run = _run_or_latest(arguments, flags, env)
    differs = stages.judge_again(run)
    if differs:
        print(f"report: {differs}", file=sys.stderr)
    reports.write(run, remarks=(differs,) if differs else ())
    _print(run.file("report.md"))
    return 0


def sign(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """Sign the seal of a run folder with SIGN_KEY, and judge it again."""
    from .. import report as reports
    from ..bench import stages
    from ..errors import UsageError
    from ..records import lock, seal, signature

    run = _run_or_latest(arguments, flags, env)
    key, faults = signature.key_setting(), seal.faults(run)
    if not key:
        raise UsageError("MLPERF_SIGN_KEY: expected the file of a key, found nothing")
    if faults:
        raise UsageError(f"{run.path}: expected a seal that holds, found: {'; '.join(faults[:3])}")
    with lock.held(run.path, "sign"):
        signed = signature.sign(run, key)
        stages.judge_and_report(run, reports.write)
    _print(signed)
    return 0


def doctor(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from .. import doctor as examination

    return examination.main(config.load(flags, env), env, as_json=arguments.json)


def health(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from ..machine import health as pulse

    path = arguments.run_dir or Path(config.load(flags, env).results_dir)
    advancing, message = pulse.check(path)
    _print(message)
    return 0 if advancing else 1


def compare(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from ..report import compare as comparison

    _print(comparison.compare(arguments.a, arguments.b))
    return 0


def pack(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """Pack run folders and check the tree; the tree's path is the result."""
    from .. import submission
    from ..records import lock
    from ..records.run_folder import RunFolder

    settings = config.load(flags, env)
    results = Path(settings.results_dir)
    runs = [RunFolder.open(path) for path in arguments.runs or [(results / "latest").resolve()]]
    with ExitStack() as locks:
        for path in {run.path.resolve() for run in runs}:
            locks.enter_context(lock.held(path, "pack"))
        tree, checked = submission.pack_and_check(settings, env, results, [run.path for run in runs])
    print(checked.text(), file=sys.stderr)
    _print(tree)
    return checked.exit_code


def check(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """MLCommons' checker and ours on a tree, also one made by others."""
    from .. import submission

    settings = config.load(flags, env)
    path = arguments.tree or submission.last_packed(Path(settings.results_dir))
    checked = submission.check(path, settings, env, settings.submitter or None)
    _print(checked.text())
    return checked.exit_code


def quantize(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """An FP8 checkpoint of the model that the settings name."""
    from ..quantize import quantize_model

    _print(quantize_model(config.load(flags, env), env, arguments.target))
    return 0


def worker(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """A member of a run, on this host or another: until its head ends it."""
    from ..engine.replicas import reach
    from ..engine.replicas import worker as member
    from ..engine.replicas.protocol import TOKEN_NAME

    return member.run(reach.parse(arguments.head, secret(TOKEN_NAME, env)), arguments.member)


def scales(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """A run's static scales made again and compared."""
    from ..bench import scales_again

    def progress(done: int, total: int) -> None:
        print(f"scales: {done} of {total} articles", file=sys.stderr)

    _print(scales_again.verify(_run_or_latest(arguments, flags, env), env, progress))
    return 0


def assets(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from ..score import nltk_data

    _print(nltk_data.install(arguments.target))
    return 0


def write_env_example(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    print(env_example.render(), end="", flush=True)
    return 0
