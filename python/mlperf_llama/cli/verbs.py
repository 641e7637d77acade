"""What each verb of a user does that makes no run: parsed arguments -> exit code.

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

if TYPE_CHECKING:
    from ..records.run_folder import RunFolder

Env = Mapping[str, str]


def show(text: object) -> None:
    """The verb's result, on standard output."""
    print(text, flush=True)


def _run_or_latest(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> RunFolder:
    from ..records.run_folder import RunFolder

    if arguments.run_dir:
        return RunFolder.open(arguments.run_dir)
    return RunFolder.open((Path(config.load(flags, env).results_dir) / "latest").resolve())


def plan(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """Before anything starts: queries and minutes by LoadGen's own arithmetic, and what a run will do here;
    with --need how many GPUs a load takes, whatever is here."""
    from ..bench import foretell, planner
    from ..machine import gpus
    from ..report import fleet

    settings = config.load(flags, env)
    if arguments.need is not None:
        show(fleet.text(arguments.need, settings))
        return 0
    here = gpus.describe(env).gpus
    shown = f"{planner.table(settings, here)}\n\n{foretell.render(foretell.lines(settings, here, env))}"
    alone = not here and not settings.endpoints and settings.samples is None
    show(f"Full-length runs, as a machine with a GPU makes them:\n{shown}" if alone else shown)
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
    show(run.path)
    return 0


def verdict(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from .. import report as reports
    from ..bench import stages

    run = _run_or_latest(arguments, flags, env)
    judged = stages.judge_and_report(run, reports.write)
    print(reports.failed_checks(judged), file=sys.stderr)
    show(run.file("verdict.json"))
    return 0


def report(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from .. import report as reports
    from ..bench import stages

    run = _run_or_latest(arguments, flags, env)
    differs = stages.judge_again(run)
    if differs:
        print(f"report: {differs}", file=sys.stderr)
    price = config.load(flags, env).price_per_hour
    reports.write(run, remarks=(differs,) if differs else (), price_per_hour=price)
    show(run.file("report.md"))
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
    show(signed)
    return 0


def doctor(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from .. import doctor as examination

    return examination.main(config.load(flags, env), env, as_json=arguments.json)


def auth(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """Which way to the weights works here."""
    from .. import auth as access

    questions = None if arguments.check else access.terminal()
    settings = config.load(flags, env)
    return access.main(settings, env, arguments.check, arguments.keep, questions, sys.stdout)


def health(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from ..machine import health as pulse

    path = arguments.run_dir or Path(config.load(flags, env).results_dir)
    advancing, message = pulse.check(path)
    show(message)
    return 0 if advancing else 1


def compare(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    from ..report import compare as comparison

    a, b = comparison.groups(comparison.folders(arguments.a), comparison.folders(arguments.b))
    if arguments.page:
        comparison.write_page(arguments.page, a, b)
        print(f"compare: wrote {arguments.page}", file=sys.stderr)
    show(comparison.summary(a, b) if arguments.json else comparison.text(a, b))
    return 0


def history(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """One page of all run folders below RESULTS_DIR."""
    from ..report import history as page

    show(page.write(Path(config.load(flags, env).results_dir)))
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
    show(tree)
    return checked.exit_code


def check(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """MLCommons' checker and ours on a tree, also one made by others."""
    from .. import submission

    settings = config.load(flags, env)
    path = arguments.tree or submission.last_packed(Path(settings.results_dir))
    checked = submission.check(path, settings, env, settings.submitter or None)
    show(checked.text())
    return checked.exit_code


def quantize(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """An FP8 checkpoint of the model that the settings name."""
    from ..quantize import quantize_model

    show(quantize_model(config.load(flags, env), env, arguments.target))
    return 0


def endpoints(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """The plan of a curve of MLPerf Endpoints, then the official client, point by point."""
    from .. import curve
    from ..machine import gpus
    from ..records import lock

    settings = config.load(flags, env)
    folder = (Path(settings.results_dir) / curve.FOLDER).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with lock.held(folder, "endpoints"):
        planned = curve.make(settings, gpus.describe(env).gpus, folder)
        print((folder / curve.PLAN).read_text(encoding="utf-8"), file=sys.stderr)
        curve.run(planned, folder)
    show(folder / curve.MEASURED)
    return 0


def serve(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """The engine as an OpenAI server, until it is stopped."""
    from ..bench import serve as server

    server.serve(config.load(flags, env), env)
    return 0


def scales(arguments: argparse.Namespace, flags: Mapping[str, str], env: Env) -> int:
    """A run's static scales made again and compared."""
    from ..bench import scales_again

    def progress(done: int, total: int) -> None:
        print(f"scales: {done} of {total} articles", file=sys.stderr)

    show(scales_again.verify(_run_or_latest(arguments, flags, env), env, progress))
    return 0
