"""Checks of the whole run: what was run, on what, and whether it is all there."""

from __future__ import annotations

from collections.abc import Collection

from .. import rules
from ..records import seal
from ..records.schema import COMPLETE, Check, Provenance, Provided, Results
from . import endpoint, engine, extension, members, ran, scales, signature, surroundings
from .check import check, equal, first
from .evidence import Evidence

# Sources whose data or weights can be official; a path must be named as such by its source.
DATASET_SOURCES = ("mlcommons", "huggingface", "path")
MODEL_SOURCES = ("mlcommons", "huggingface", "path")


def checks(evidence: Evidence) -> list[Check]:
    """Every run-level check."""
    dataset, model = evidence.provenance.dataset, evidence.provenance.model
    return [
        _records(evidence),
        _complete(evidence),
        _seal(evidence),
        *signature.checks(evidence.run),
        _machine(evidence),
        *members.checks(evidence),
        *_round(evidence),
        *_source(dataset or Provided(), "dataset", DATASET_SOURCES),
        _rows(evidence),
        *_source(model or Provided(), "model", MODEL_SOURCES),
        _samples(evidence),
        _duration(evidence),
        *engine.checks(evidence),
        *endpoint.checks(evidence),
        *ran.checks(evidence),
        *surroundings.checks(evidence),
        extension.check_extension(evidence),
        *scales.checks(evidence),
        _scenarios(evidence),
    ]


def _records(evidence: Evidence) -> Check:
    return check(
        "records",
        not evidence.problems,
        "; ".join(evidence.problems.values()) or "config, provenance, results and system are readable",
        "run again; a record that is missing cannot be made up afterwards",
    )


def _complete(evidence: Evidence) -> Check:
    """Without results.json the run did not end."""
    status = None if Results.FILE in evidence.problems else evidence.results.status
    return equal("complete", status, COMPLETE, "let the run come to its end")


def _seal(evidence: Evidence) -> Check:
    lines = seal.faults(evidence.run)
    return check(
        "seal",
        not lines,
        first(lines) or "no file changed since its stage wrote it",
        "run again; files of a run folder must not be edited, renamed or mixed",
    )


def _machine(evidence: Evidence) -> Check:
    """A resumed run must have been finished on the system it began on."""
    fix = "run again on one machine"
    if Provenance.FILE in evidence.problems:
        return Check("machine", False, "not recorded", fix)
    resumed = evidence.provenance.resumed or ()
    differing = [part for resume in resumed for part in resume.other_system]
    detail = f"one machine, resumed {len(resumed)} times"
    if differing:
        detail = f"resumed with another {', '.join(differing)}"
    return check("machine", not differing, detail, fix)


def _round(evidence: Evidence) -> list[Check]:
    known = rules.ROUNDS.get(evidence.round)
    version = known.loadgen_version if known else None
    names = {evidence.round, str(evidence.provenance.round), str(evidence.results.round)}
    recorded = evidence.provenance.loadgen_version
    return [
        check(
            "round",
            known is not None and names == {evidence.round},
            f"{', '.join(sorted(names))}; known: {', '.join(rules.ROUNDS)}",
            "run again with the ROUND you submit to",
        ),
        check(
            "loadgen_version",
            version is not None and recorded == version,
            f"{recorded}, {evidence.round} uses {version}",
            "run again with the round's own LoadGen",
        ),
    ]


def _source(provided: Provided, kind: str, allowed: tuple[str, ...]) -> list[Check]:
    setting = "DATASET_SOURCE" if kind == "dataset" else "MODEL"
    fix = (
        f"run with the official {kind} ({setting}=mlcommons or huggingface); `make doctor` says what it needs"
    )
    return [
        check(
            f"{kind}_source",
            provided.source in allowed,
            f"{provided.source}, eligible: {', '.join(allowed)}",
            fix,
        ),
        check(
            f"{kind}_eligible",
            provided.eligible is True and bool(provided.sha256),
            provided.reason or f"sha256 {provided.sha256 or 'not recorded'}",
            fix,
        ),
    ]


def _rows(evidence: Evidence) -> Check:
    dataset, category = evidence.provenance.dataset, evidence.category
    full = rules.SAMPLE_COUNT[category]
    return equal(
        "dataset_rows",
        dataset.rows if dataset else None,
        full,
        f"use the whole {category} dataset of {full} rows",
    )


def _samples(evidence: Evidence) -> Check:
    full, config = rules.SAMPLE_COUNT[evidence.category], evidence.config
    used = evidence.provenance.samples
    return check(
        "samples",
        config is not None and config.samples in (None, full) and used == full,
        f"{used} of {full} samples, SAMPLES={_requested(config and config.samples)}",
        "run without SAMPLES: a subset is never submittable",
    )


def _duration(evidence: Evidence) -> Check:
    config, shortened = evidence.config, evidence.provenance.shortened
    duration_s = config.duration_s if config else None
    long_enough = config is not None and (duration_s is None or duration_s >= rules.MIN_DURATION_S)
    return check(
        "duration",
        long_enough and shortened is False,
        f"DURATION_S={_requested(duration_s)}, shortened: {shortened}; at least {rules.MIN_DURATION_S:g} s",
        "run without DURATION_S",
    )


def _requested(value: object) -> str:
    return "auto" if value is None else str(value)


def _scenarios(evidence: Evidence) -> Check:
    category = evidence.category
    complete = evidence.complete_scenarios
    missing = missing_scenarios(category, complete)
    foreign = [s.name for s in evidence.scenarios if s.name not in rules.CATEGORY_SCENARIOS[category]]
    faults = [f"{m} missing" for m in missing] + [f"{f} not of this category" for f in foreign]
    return check(
        "scenarios",
        not faults,
        f"{category}: {', '.join(complete) or 'none'}" + (f"; {'; '.join(faults)}" if faults else ""),
        f"run SCENARIO=all MODE=all CATEGORY={category}, or pack several run folders together",
    )


def missing_scenarios(category: str, present: Collection[str]) -> list[str]:
    """What the category requires and `present` lacks, in words."""
    required = rules.REQUIRED_SCENARIOS[category]
    return [" or ".join(names) for names in required if not set(names) & set(present)]
