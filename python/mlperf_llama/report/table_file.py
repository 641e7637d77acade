"""results.csv: a row per scenario, for spreadsheets and for comparing many runs."""

from __future__ import annotations

import csv
import io

from .. import rules
from ..credentials import redaction
from ..records.schema import Performance, Scenario
from ..score import gate
from . import energy, latency, outcome
from .run import Run

FILE = "results.csv"
LIMITS = ("ttft_limit_ms", "tpot_limit_ms")
PERFORMANCE = (
    *("loadgen_result", "samples_per_second", "tokens_per_second", "total_time_seconds"),
    *("samples_processed", "ttft_p99_ms", "tpot_p99_ms", "latency_p90_ms"),
)
# From the requests of the performance run, and from its energy.
REQUESTS = ("goodput_percent", "ttft_p50_ms", "tpot_p50_ms", "end_to_end_p99_ms", "joules_per_token")
COLUMNS = (
    *("run", "started", "round", "category", "status", "submittable"),
    *("gpus", "gpu", "engine", "model", "dataset", "quantization", "scenario", "target_qps"),
    *PERFORMANCE,
    *LIMITS,
    *REQUESTS,
    *gate.KEYS,
    *("accuracy_passed", "test06_passed"),
)


def render(run: Run) -> str:
    """The whole file. What was not measured is empty, never 0."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for name, scenario in run.scenarios.items():
        cells = _shared(run) | _own(run, name, scenario)
        writer.writerow({key: _cell(value) for key, value in cells.items()})
    return text.getvalue()


def _shared(run: Run) -> dict[str, object]:
    """What every scenario of the run has alike."""
    provenance = run.provenance
    return {
        "run": run.path.name,
        "started": run.results.started,
        "round": run.round,
        "category": run.category,
        "status": run.results.status,
        "submittable": bool(run.verdict and run.verdict.submittable and not run.not_eligible()),
        "gpus": run.gpus_used,
        "gpu": run.gpus[0].name if run.gpus else None,
        "engine": run.engine.name,
        "model": provenance.model.source if provenance.model else None,
        "dataset": provenance.dataset.source if provenance.dataset else None,
        "quantization": run.engine_settings.get("quantization"),
    }


def _own(run: Run, name: str, scenario: Scenario) -> dict[str, object]:
    limits = rules.TOKEN_LATENCY_LIMITS_MS.get(name, (None, None))
    cells: dict[str, object] = {"scenario": name, **dict(zip(LIMITS, limits, strict=True))}
    if scenario.performance:
        cells["target_qps"] = outcome.asked(run.logs.get(name, {})).target_qps
        cells |= {key: getattr(scenario.performance, key) for key in PERFORMANCE}
        cells |= dict(zip(REQUESTS, _requests(run, name, scenario.performance), strict=True))
    if scenario.accuracy:
        cells |= {key: getattr(scenario.accuracy, key) for key in gate.KEYS}
        cells["accuracy_passed"] = scenario.accuracy.passed
    if scenario.compliance:
        cells["test06_passed"] = scenario.compliance.passed
    return cells


def _requests(run: Run, name: str, performance: Performance) -> list[float | None]:
    """The values of REQUESTS; None where the folder does not hold what they come from."""
    latencies, limits = run.latencies.get(name), rules.TOKEN_LATENCY_LIMITS_MS.get(name)
    joules = energy.per_token(performance, performance.energy) if performance.energy else None
    kinds = latencies.kinds if latencies else {}
    share = latency.within(latencies, limits) if latencies and limits else None
    wanted = ((latency.TTFT, 50.0), (latency.TPOT, 50.0), (latency.WHOLE, 99.0))
    values = [latency.percentile(kinds[kind], percent) if kind in kinds else None for kind, percent in wanted]
    every = (None if share is None else 100 * share, *values, joules)
    return [None if value is None else round(value, 4) for value in every]


def _cell(value: object) -> str:
    """A text that a spreadsheet could take for a formula begins with an apostrophe."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    text = redaction.visible(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
