"""The stages after the engine: score, verdict, report. None needs a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from .. import report, score, verdict
from ..config import Config
from ..errors import PipelineError
from ..records.run_folder import RunFolder
from ..records.schema import Verdict

log = logging.getLogger(__name__)
Scored = Callable[[str, int, int], None]


def merge_scenario(run: RunFolder, scenario: str, **parts: Any) -> None:
    """Put parts (performance, accuracy, compliance) of one scenario into results.json."""
    scenarios = dict(run.read_raw("results.json").get("scenarios", {}))
    scenarios[scenario] = {**scenarios.get(scenario, {}), **parts}
    run.merge("results.json", scenarios=scenarios)


def score_all(run: RunFolder, config: Config, env: Mapping[str, str], progress: Scored | None = None) -> None:
    """Score every scenario that has an accuracy log."""
    for scenario in config.scenario:
        if not (run.log_dir(scenario, "accuracy") / "mlperf_log_accuracy.json").is_file():
            continue

        def tell(done: int, total: int, scenario: str = scenario) -> None:
            if progress:
                progress(scenario, done, total)

        found = score.score_run(run, scenario, config.score_workers, tell, env)
        merge_scenario(run, scenario, accuracy=found)


def judge_and_report(run: RunFolder) -> Verdict:
    """Judge, then write the words. A report that cannot be written never hides a result."""
    judged = verdict.judge(run)
    try:
        report.write(run)
    except (PipelineError, OSError, ValueError, KeyError) as error:
        log.warning("report_failed error=%r", error)
    return judged
