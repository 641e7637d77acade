"""Checks of one scenario: its performance, accuracy and TEST06 runs together."""

from __future__ import annotations

from ..errors import PipelineError
from ..loadgen import logs
from ..records.codec import to_json
from . import accuracy, performance, test06
from .check import Check, check
from .evidence import Evidence, Json, ModeLogs, ScenarioEvidence, record

FIX_MODE = {
    "performance": "run MODE=performance for this scenario",
    "accuracy": "run MODE=accuracy for this scenario",
    "compliance": "run MODE=compliance (TEST06) for this scenario",
}


def checks(one: ScenarioEvidence, found: Evidence) -> list[Check]:
    """Every check of one scenario; a missing run is one failed check."""
    result = []
    for mode, part in _modes(one).items():
        result.append(_present(one, mode, part))
        if part.detail is not None:
            result += performance.common(one, mode, part)
    if one.performance.detail is not None:
        result += performance.checks(one)
        result.append(_recorded(one))
    if one.accuracy.detail is not None:
        result += accuracy.checks(one)
    if one.compliance.detail is not None:
        result += test06.checks(one)
    result.append(_same_settings(one, found))
    return result


def _modes(one: ScenarioEvidence) -> dict[str, ModeLogs]:
    return {"performance": one.performance, "accuracy": one.accuracy, "compliance": one.compliance}


def _present(one: ScenarioEvidence, mode: str, part: ModeLogs) -> Check:
    name = f"{one.name}.{mode}"
    return check(name, part.detail is not None, part.problem or "LoadGen's logs are there", FIX_MODE[mode])


def _recorded(one: ScenarioEvidence) -> Check:
    """results.json must say what LoadGen's log says."""
    name = f"{one.name}.results"
    fix = "run the score verb again: results.json must hold LoadGen's own numbers"
    recorded = record(one.recorded.get("performance"))
    try:
        derived = to_json(logs.performance(one.performance.path, one.name))
    except (PipelineError, ValueError, KeyError) as error:
        return Check(name, False, str(error), fix)
    wrong = [
        f"{key} {recorded.get(key)}, LoadGen {value}"
        for key, value in derived.items()
        if recorded.get(key) != value
    ]
    return check(name, not wrong, "; ".join(wrong) or "results.json equals LoadGen's log", fix)


def _same_settings(one: ScenarioEvidence, found: Evidence) -> Check:
    """Performance, accuracy and TEST06 under the same engine settings."""
    whole = record(found.results.get("engine"))
    per_mode = record(one.recorded.get("engine_settings"))
    used: dict[str, Json] = {
        mode: record(per_mode.get(mode)) or record(whole.get("settings"))
        for mode, part in _modes(one).items()
        if part.detail is not None
    }
    reference = used.get("performance") or {}
    keys = sorted({k for s in used.values() for k in s})
    wrong = [
        f"{mode}: {key}={settings.get(key)}, performance: {reference.get(key)}"
        for mode, settings in used.items()
        for key in keys
        if settings.get(key) != reference.get(key)
    ]
    detail = "; ".join(wrong) or f"{len(reference)} settings, equal in {', '.join(used) or 'no run'}"
    return check(
        f"{one.name}.same_settings",
        bool(reference) and not wrong,
        detail,
        "run performance and accuracy in one invocation, with the same settings",
    )
