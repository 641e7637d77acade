"""The report's first part: submittable or not, valid or not, scores against targets, speed."""

from __future__ import annotations

from typing import Any

from .. import rules
from . import beside
from .blocks import NOTHING, Banner, Block, Items, Section, Table, Text, number, word
from .record import Record, mapping

# An unfinished run's first line.
UNFINISHED = {
    "running": "This run has not finished, or was killed without a chance to say so.",
    "interrupted": "This run was interrupted. What was finished is below.",
    "failed": "This run failed. What was finished is below.",
    "unknown": "This folder holds no results.",
}


def banner(record: Record) -> Banner:
    """The one answer: submittable, not submittable, or no MLPerf result at all."""
    lines = [UNFINISHED[record.status]] if record.status in UNFINISHED else []
    if record.results.get("error"):
        lines.append(str(record.results["error"]))
    against = record.not_eligible()
    if against:
        return Banner("Not an MLPerf result", (*lines, *against), "bad")
    if not record.verdict:
        return Banner("Not judged", (*lines, "There is no verdict.json; `make report` judges again."), "warn")
    failed = failed_checks(record)
    if record.verdict.get("submittable") is True and not failed and not lines:
        return Banner("Submittable", ("Every check passed.",), "good")
    lines += [
        f"{len(failed)} of {len(checks(record))} checks failed; they stand below, each with its remedy."
    ]
    return Banner("Not submittable", tuple(lines), "bad")


def checks(record: Record) -> list[dict[str, Any]]:
    return [c for c in record.verdict.get("checks") or [] if isinstance(c, dict)]


def failed_checks(record: Record) -> list[dict[str, Any]]:
    return [c for c in checks(record) if c.get("passed") is not True]


def _limited(value: object, limit: float | None) -> str:
    if not isinstance(value, int | float):
        return NOTHING
    return number(float(value), 1) + (f" of {limit:g}" if limit is not None else "")


def _performance(record: Record) -> Table:
    rows = []
    for name, found in record.scenarios.items():
        given = mapping(found.get("performance"))
        ttft, tpot = rules.TOKEN_LATENCY_LIMITS_MS.get(name, (None, None))
        rows.append(
            (
                name,
                word(given.get("loadgen_result") or "not run"),
                number(given.get("samples_per_second")),
                number(given.get("tokens_per_second"), 1),
                _limited(given.get("ttft_p99_ms"), ttft),
                _limited(given.get("tpot_p99_ms"), tpot),
                _limited(given.get("latency_p90_ms"), None),
                word(given.get("samples_processed")),
                number(given.get("total_time_seconds"), 1),
            )
        )
    heads = (
        "scenario",
        "LoadGen says",
        "samples/s",
        "tokens/s",
        "TTFT p99 ms",
        "TPOT p99 ms",
        "latency p90 ms",
    )
    return Table((*heads, "samples", "seconds"), tuple(rows), "llrrrrrrr", "Performance")


def _reached(given: object, target: float, eligible: bool) -> str:
    if not eligible or not isinstance(given, int | float):
        return NOTHING
    return "reached" if given >= target else "missed"


def _score_rows(given: dict[str, Any], category: str, eligible: bool) -> tuple[tuple[str, ...], ...]:
    """One row a score: what was reached, the target of the category, and how it went."""
    reference = rules.REFERENCE_SCORES.get(category, {})
    rows = []
    for key in rules.ROUGE_KEYS:
        target = reference.get(key, 0) * rules.ACCURACY_TIER
        reached = _reached(given.get(key), target, eligible)
        rows.append((key, number(given.get(key), 4), number(target, 4), reached))
    low, high = (bound * reference.get("gen_len", 0) for bound in rules.GEN_LEN_RANGE)
    length, count = given.get("gen_len"), reference.get("gen_num", 0)
    inside = _reached(length, low, eligible)
    if inside == "reached" and length > high:  # type: ignore[operator]
        inside = "missed"
    span = f"{number(low, 0)} to {number(high, 0)}"
    rows.append(("gen_len (characters)", number(length, 0), span, inside))
    found = given.get("gen_num")
    rows.append(("gen_num (samples)", number(found, 0), number(count, 0), _reached(found, count, eligible)))
    return tuple(rows)


def _scores(record: Record, eligible: bool) -> list[Table]:
    tables = []
    for name, found in record.scenarios.items():
        given = mapping(found.get("accuracy"))
        if not any(key in given for key in rules.ROUGE_KEYS):
            continue
        rows = _score_rows(given, record.category, eligible)
        note = (
            "" if eligible else "The targets are for the real model on the whole real set: not applied here."
        )
        tables.append(Table(("score", "this run", "target", ""), rows, "lrrl", f"Accuracy, {name}", note))
    return tables


def section(record: Record) -> Section:
    eligible = not record.not_eligible()
    blocks: list[Block] = [_performance(record), *_scores(record, eligible)]
    failed = failed_checks(record)
    if failed:
        rows = tuple((word(c.get("name")), word(c.get("detail")), word(c.get("fix"))) for c in failed)
        blocks.append(Table(("check", "found", "remedy"), rows, "lll", "What stands against submitting"))
    blocks += [*beside.published_results(record), *beside.card_limit(record)]
    if record.gaps:
        blocks.append(Text("Missing records:", "warn"))
        blocks.append(Items(record.gaps))
    return Section("The answer", tuple(blocks))
