"""Checks of one scenario: its performance, accuracy and TEST06 runs together."""

from __future__ import annotations

from ..errors import PipelineError
from ..loadgen import logs
from ..records import codec
from ..records.schema import Check
from . import accuracy, every_run, performance, test06, twice
from .check import check
from .evidence import Evidence, ModeLogs, ScenarioEvidence

FIX_MODE = {
    "performance": "run MODE=performance for this scenario",
    "accuracy": "run MODE=accuracy for this scenario",
    "compliance": "run MODE=compliance (TEST06) for this scenario",
}


def checks(scenario: ScenarioEvidence, evidence: Evidence) -> list[Check]:
    """Every check of one scenario; a missing run is one failed check."""
    result = []
    for mode, log in scenario.modes.items():
        result.append(_present(scenario, mode, log))
        if log.detail is not None:
            result += every_run.checks(scenario, mode, log)
            result += twice.checks(scenario, mode, log, evidence)
    if scenario.performance.detail is not None:
        result += performance.checks(scenario)
        result += [_recorded(scenario), twice.roofline_limit(scenario, evidence)]
    if scenario.accuracy.detail is not None:
        result += accuracy.checks(scenario)
    if scenario.compliance.detail is not None:
        result += test06.checks(scenario)
    result.append(_same_settings(scenario, evidence))
    return result


def _present(scenario: ScenarioEvidence, mode: str, log: ModeLogs) -> Check:
    name = f"{scenario.name}.{mode}"
    return check(name, log.detail is not None, log.problem or "LoadGen's logs are there", FIX_MODE[mode])


def _recorded(scenario: ScenarioEvidence) -> Check:
    """results.json must say what LoadGen's log says."""
    name = f"{scenario.name}.results"
    fix = "run the score verb again: results.json must hold LoadGen's own numbers"
    recorded = codec.to_json(scenario.recorded.performance) or {}
    try:
        derived = codec.to_json(logs.performance(scenario.performance.path, scenario.name))
    except (PipelineError, ValueError) as error:
        return Check(name, False, str(error), fix)
    mismatches = [
        f"{key} {recorded.get(key)}, LoadGen {value}"
        for key, value in derived.items()
        if recorded.get(key) != value
    ]
    return check(name, not mismatches, "; ".join(mismatches) or "results.json equals LoadGen's log", fix)


def _same_settings(scenario: ScenarioEvidence, evidence: Evidence) -> Check:
    """Performance, accuracy and TEST06 under the same engine settings."""
    loaded = evidence.results.engine.settings if evidence.results.engine else {}
    per_mode = scenario.recorded.engine_settings or {}
    used = {
        mode: per_mode.get(mode) or loaded for mode, log in scenario.modes.items() if log.detail is not None
    }
    reference = used.get("performance") or {}
    keys = sorted({k for s in used.values() for k in s})
    mismatches = [
        f"{mode}: {key}={settings.get(key)}, performance: {reference.get(key)}"
        for mode, settings in used.items()
        for key in keys
        if settings.get(key) != reference.get(key)
    ]
    detail = "; ".join(mismatches) or f"{len(reference)} settings, equal in {', '.join(used) or 'no run'}"
    return check(
        f"{scenario.name}.same_settings",
        bool(reference) and not mismatches,
        detail,
        "run performance and accuracy in one invocation, with the same settings",
    )
