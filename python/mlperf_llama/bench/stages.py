"""The stages after the engine: score, verdict, report. None needs a GPU."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import Any

from .. import score, verdict
from ..config import Config
from ..errors import PipelineError
from ..loadgen import logs
from ..records import seal, signature
from ..records.run_folder import RunFolder
from ..records.schema import Accuracy, Results, Scenario, Verdict

log = logging.getLogger(__name__)
Scored = Callable[[str, int, int], None]
WriteReport = Callable[[RunFolder], None]


def update_scenario(run: RunFolder, scenario: str, **parts: Any) -> None:
    """Put parts (performance, accuracy, compliance, engine_settings) of one scenario into results.json."""
    scenarios = run.read(Results).scenarios
    changed = dataclasses.replace(scenarios.get(scenario, Scenario()), **parts)
    run.update(Results, scenarios={**scenarios, scenario: changed})


def score_all(run: RunFolder, config: Config, env: Mapping[str, str], progress: Scored | None = None) -> None:
    """Score every scenario that has an accuracy log."""
    for scenario in config.scenario:
        if not (run.log_dir(scenario, "accuracy") / logs.ACCURACY).is_file():
            continue

        def report(done: int, total: int, scenario: str = scenario) -> None:
            if progress:
                progress(scenario, done, total)

        with seal.part(run, f"score {scenario}", *run.names(score.scores_file(run, scenario))):
            accuracy = score.score_run(run, scenario, config.score_workers, report, env)
        measured = run.read(Results).scenarios.get(scenario, Scenario()).accuracy or Accuracy()
        # What was measured with the answers stays beside their scores.
        kept = dataclasses.replace(
            accuracy,
            counters=measured.counters,
            lost_members=measured.lost_members,
            driven=measured.driven,
        )
        update_scenario(run, scenario, accuracy=kept)


def judge_again(run: RunFolder) -> str:
    """Judge a folder whatever its verdict.json says; how that differs from the verdict now, if it does."""
    recorded, broken = None, ""
    try:
        recorded = run.read_or_new(Verdict)
    except PipelineError as error:
        broken = str(error)
    judged = verdict.judge(run)
    if recorded is None or not recorded.checks:
        return broken
    before = {c.name: c.passed for c in recorded.checks}
    now = {c.name: c.passed for c in judged.checks}
    other = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if recorded.submittable == judged.submittable and not other:
        return ""
    said = "submittable" if recorded.submittable else "not submittable"
    names = ", ".join(other[:5]) + (f" and {len(other) - 5} more" if len(other) > 5 else "")
    return f"{Verdict.FILE} said {said}, with other results of {names or 'no check'}; it was judged again."


def sign_if_asked(run: RunFolder) -> str:
    """Sign the seal where SIGN_KEY names a key. Why it is not signed; empty where it is, or nobody asked: a
    run is not lost by that."""
    key = signature.key_setting()
    try:
        if key:
            signature.sign(run, key)
    except PipelineError as error:
        return f"not signed: {error}; later: make sign RUN_DIR={run.path} SIGN_KEY=..."
    return ""


def judge_and_report(run: RunFolder, write_report: WriteReport) -> Verdict:
    """Judge, then write the report. One that cannot be written never hides a result."""
    judged = verdict.judge(run)
    try:
        write_report(run)
    except (PipelineError, OSError, ValueError, KeyError) as error:
        log.warning("report_failed error=%r", error)
    return judged
