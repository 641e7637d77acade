"""Checks of the whole run: what was run, on what, and whether it is all there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import rules
from ..records import seal
from ..records.run_folder import COMPLETE
from .check import Check, check, equal
from .evidence import Evidence, Json, record

# Engines that compute answers. `fake` scripts them, anything unknown may too.
REAL_ENGINES = ("vllm",)
# Rungs whose data or weights can be official; a path must be named as such by its rung.
DATASET_SOURCES = ("mlcommons", "huggingface", "path")
MODEL_SOURCES = ("mlcommons", "huggingface", "path")


def checks(found: Evidence) -> list[Check]:
    """Every run-level check."""
    return [
        _records(found),
        _complete(found),
        _seal(found),
        _machine(found),
        *_round(found),
        *_source(found, "dataset", DATASET_SOURCES),
        _rows(found),
        *_source(found, "model", MODEL_SOURCES),
        _samples(found),
        _duration(found),
        *_engine(found),
        _scenarios(found),
    ]


def _records(found: Evidence) -> Check:
    return check(
        "records",
        not found.problems,
        "; ".join(found.problems) or "config, provenance, results and system are readable",
        "run again; a record that is missing cannot be made up afterwards",
    )


def _complete(found: Evidence) -> Check:
    return equal("complete", found.results.get("status"), COMPLETE, "let the run come to its end")


def _seal(found: Evidence) -> Check:
    lines = [*record(found.run.read_or_empty(seal.NAME)).get("broken", []), *seal.differences(found.run)]
    more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
    return check(
        "seal",
        not lines,
        "; ".join(lines[:5]) + more if lines else "no file changed since its stage wrote it",
        "run again; files of a run folder must not be edited, renamed or mixed",
    )


def _machine(found: Evidence) -> Check:
    """A resumed run must have been finished on the system it began on."""
    resumed = found.provenance.get("resumed") or []
    other = [record(r).get("other_system") for r in resumed] if isinstance(resumed, list) else [resumed]
    wrong = [o for o in other if o != []]
    return check(
        "machine",
        not wrong,
        f"resumed with another {', '.join(map(str, wrong))}"
        if wrong
        else f"one machine, resumed {len(other)} times",
        "run again on one machine",
    )


def _round(found: Evidence) -> list[Check]:
    known = rules.ROUNDS.get(found.round)
    version = known.loadgen_version if known else None
    names = {str(r.get("round")) for r in (found.config, found.provenance, found.results)}
    recorded = found.provenance.get("loadgen_version")
    return [
        check(
            "round",
            known is not None and names == {found.round},
            f"{', '.join(sorted(names))}; known: {', '.join(rules.ROUNDS)}",
            "run again with the ROUND you submit to",
        ),
        check(
            "loadgen_version",
            version is not None and recorded == version,
            f"{recorded}, {found.round} uses {version}",
            "run again with the round's own LoadGen",
        ),
    ]


def _source(found: Evidence, kind: str, allowed: tuple[str, ...]) -> list[Check]:
    served = record(found.provenance.get(kind))
    source, reason = served.get("source"), served.get("reason") or ""
    setting = "DATASET_SOURCE" if kind == "dataset" else "MODEL"
    fix = (
        f"run with the official {kind} ({setting}=mlcommons or huggingface); `make doctor` says what it needs"
    )
    return [
        check(
            f"{kind}_source",
            source in allowed,
            f"{source}, eligible: {', '.join(allowed)}",
            fix,
        ),
        check(
            f"{kind}_eligible",
            served.get("eligible") is True and bool(served.get("sha256")),
            str(reason or f"sha256 {served.get('sha256') or 'not recorded'}"),
            fix,
        ),
    ]


def _rows(found: Evidence) -> Check:
    rows = record(found.provenance.get("dataset")).get("rows")
    full = rules.SAMPLE_COUNT[found.category]
    return equal("dataset_rows", rows, full, f"use the whole {found.category} dataset of {full} rows")


def _samples(found: Evidence) -> Check:
    full = rules.SAMPLE_COUNT[found.category]
    asked, used = found.config.get("samples"), found.provenance.get("samples")
    return check(
        "samples",
        asked in (None, full) and used == full,
        f"{used} of {full} samples, SAMPLES={'auto' if asked is None else asked}",
        "run without SAMPLES: a subset is never submittable",
    )


def _duration(found: Evidence) -> Check:
    asked, shortened = found.config.get("duration_s"), found.provenance.get("shortened")
    long_enough = asked is None or (isinstance(asked, int | float) and asked >= rules.MIN_DURATION_S)
    return check(
        "duration",
        long_enough and shortened is False,
        f"DURATION_S={'auto' if asked is None else asked}, shortened: {shortened}; "
        f"at least {rules.MIN_DURATION_S:g} s",
        "run without DURATION_S",
    )


def _engine(found: Evidence) -> list[Check]:
    engine = record(found.results.get("engine"))
    name, asked = engine.get("name"), found.config.get("engine")
    return [
        check(
            "engine",
            name in REAL_ENGINES and asked == name,
            f"{name}, ENGINE={asked}; engines that compute: {', '.join(REAL_ENGINES)}",
            "run with ENGINE=vllm",
        ),
        _endings(found),
        *_settings(found),
    ]


def _endings(found: Evidence) -> Check:
    ignored = found.config.get("ignore_eos", False)
    return check(
        "ignore_eos",
        ignored is False,
        "answers end at the model's end tokens" if ignored is False else "answers ran past their end tokens",
        "run without IGNORE_EOS: it is for measurements of speed",
    )


def _settings(found: Evidence) -> list[Check]:
    """The rules' own limits on the engine, in the settings of every single run."""
    everywhere = _every_settings(found)

    def values(key: str) -> list[object]:
        return list(dict.fromkeys(str(s.get(key)) for s in everywhere))

    def holds(key: str, right: Callable[[Any], bool]) -> bool:
        return all(right(s.get(key)) for s in everywhere)

    def one(name: str, key: str, right: Callable[[Any], bool], why: str) -> Check:
        detail = f"{key}={', '.join(map(str, values(key)))}; {why}"
        return check(
            name, holds(key, right), detail, f"run again with ENGINE_ARGS and PRESET that leave {key}"
        )

    return [
        one("weights", "load_format", lambda v: isinstance(v, str) and v != "dummy", "no made-up weights"),
        one("prefix_caching", "enable_prefix_caching", lambda v: v is False, "no reuse across queries"),
        one("speculative_decoding", "speculative_decoding", lambda v: v is False, "not for this model"),
        one(
            "prompt_length",
            "max_model_len",
            lambda v: isinstance(v, int) and v >= rules.MAX_MODEL_LEN,
            f"at least {rules.MAX_MODEL_LEN}, so that no prompt is cut",
        ),
    ]


def _every_settings(found: Evidence) -> list[Json]:
    """The engine's settings as loaded, and as each mode of each scenario recorded them."""
    loaded = record(record(found.results.get("engine")).get("settings"))
    per_mode = [record(s.recorded.get("engine_settings")) for s in found.scenarios]
    return [loaded, *(record(settings) for modes in per_mode for settings in modes.values())]


def _scenarios(found: Evidence) -> Check:
    have = [s.name for s in found.scenarios if s.performance.detail and s.accuracy.detail]
    need = rules.REQUIRED_SCENARIOS[found.category]
    missing = [" or ".join(names) for names in need if not set(names) & set(have)]
    foreign = [s.name for s in found.scenarios if s.name not in rules.CATEGORY_SCENARIOS[found.category]]
    wrong = [f"{m} missing" for m in missing] + [f"{f} not of this category" for f in foreign]
    return check(
        "scenarios",
        not wrong,
        f"{found.category}: {', '.join(have) or 'none'}" + (f"; {'; '.join(wrong)}" if wrong else ""),
        f"run SCENARIO=all MODE=all CATEGORY={found.category}, or pack several run folders together",
    )
