"""Checks of every LoadGen run's detail log, whatever its mode: release, seeds, samples, no errors."""

from __future__ import annotations

from .. import rules
from ..records.schema import Check
from .check import check, equal
from .evidence import ModeLogs, ScenarioEvidence

TEST_MODE = {
    "performance": "PerformanceOnly",
    "accuracy": "AccuracyOnly",
    # LoadGen's audit settings turn TEST06 into a performance run.
    "compliance": "PerformanceOnly",
}
SEEDS = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")


def checks(scenario: ScenarioEvidence, mode: str, log: ModeLogs) -> list[Check]:
    """What must hold in every LoadGen run of a scenario."""
    prefix = f"{scenario.name}.{mode}"
    assert log.detail is not None
    errors, faults = log.detail.errors, log.detail.faults
    return [
        check(
            f"{prefix}.lines",
            not faults,
            "; ".join(faults) or "every line can be read, no key has two values",
            "use the log as LoadGen wrote it",
        ),
        check(
            f"{prefix}.errors",
            not errors,
            f"{len(errors)} error lines: {errors[0]}" if errors else "no error line in LoadGen's log",
            "correct what LoadGen names, then run again",
        ),
        _kind(scenario, mode, log),
        _version(scenario, prefix, log),
        _seeds(scenario, prefix, log),
        _counts(scenario, prefix, log),
        equal(
            f"{prefix}.token_latencies",
            log.get("requested_use_token_latencies"),
            True,
            "run with LoadGen's own model name, which records token latencies",
        ),
    ]


def _kind(scenario: ScenarioEvidence, mode: str, log: ModeLogs) -> Check:
    actual = (log.get("effective_scenario"), log.get("effective_test_mode"))
    expected = (rules.loadgen_scenario(scenario.name), TEST_MODE[mode])
    return check(
        f"{scenario.name}.{mode}.scenario",
        actual == expected,
        f"{actual[0]} {actual[1]}, expected {expected[0]} {expected[1]}",
        "run again; folders of a run must not be renamed",
    )


def _version(scenario: ScenarioEvidence, prefix: str, log: ModeLogs) -> Check:
    known = rules.ROUNDS.get(scenario.round)
    version = str(log.get("loadgen_version") or "").split(" ")[0]
    return check(
        f"{prefix}.loadgen_version",
        known is not None and version == known.loadgen_version,
        f"{version or 'not recorded'}, {scenario.round} uses {known.loadgen_version if known else 'none'}",
        "run again with the ROUND you submit to",
    )


def _seeds(scenario: ScenarioEvidence, prefix: str, log: ModeLogs) -> Check:
    known = rules.ROUNDS.get(scenario.round)
    mismatches = [
        f"{name} {log.get('effective_' + name)}, expected {getattr(known, name, None)}"
        for name in SEEDS
        if known is None or log.get("effective_" + name) != getattr(known, name)
    ]
    detail = "; ".join(mismatches) or f"the three seeds of {scenario.round}"
    return check(f"{prefix}.seeds", not mismatches, detail, "run again with the ROUND you submit to")


def _counts(scenario: ScenarioEvidence, prefix: str, log: ModeLogs) -> Check:
    keys = ["qsl_reported_total_count", "effective_performance_sample_count"]
    if log.detail is not None and "effective_accuracy_sample_count" in log.detail:
        keys.append("effective_accuracy_sample_count")
    counts = {key: log.get(key) for key in keys}
    return check(
        f"{prefix}.samples",
        all(count == scenario.full_count for count in counts.values()),
        f"{', '.join(f'{k} {v}' for k, v in counts.items())}, expected {scenario.full_count}",
        "run without SAMPLES: a subset is never submittable",
    )
