"""The report's first part: submittable or not, valid or not, scores against targets, speed."""

from __future__ import annotations

from typing import Any

from .. import rules
from . import published_comparison
from .blocks import NOTHING, Banner, Block, Items, Section, Table, Text, number, word
from .record import Record, mapping

LABELS = {"gen_len": "gen_len (characters)", "gen_num": "gen_num (samples)"}
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


def _targets(given: dict[str, Any], category: str, eligible: bool) -> dict[str, dict[str, Any]]:
    """Each score's bounds and whether they are met, as the scorer recorded them; a record
    without them is held against the rules."""
    recorded = mapping(given.get("targets"))
    found = {}
    for key, value in rules.REFERENCE_SCORES.get(category, {}).items():
        low, high = value * rules.ACCURACY_TIER, None
        if key == "gen_len":
            low, high = (bound * value for bound in rules.GEN_LEN_RANGE)
        elif key == "gen_num":
            low = high = value
        reached = given.get(key)
        met = None
        if eligible and isinstance(reached, int | float):
            met = reached >= low and (high is None or reached <= high)
        found[key] = mapping(recorded.get(key)) or {"low": low, "high": high, "met": met}
    return found


def _span(low: Any, high: Any, digits: int) -> str:
    if high is None or high == low:
        return number(low, digits)
    return f"{number(low, digits)} to {number(high, digits)}"


def _score_rows(given: dict[str, Any], category: str, eligible: bool) -> tuple[tuple[str, ...], ...]:
    """One row a score: what was reached, the target of the category, and how it went."""
    rows = []
    for key, bounds in _targets(given, category, eligible).items():
        digits = 4 if key in rules.ROUGE_KEYS else 0
        went = {True: "reached", False: "missed"}.get(bounds.get("met"), NOTHING)  # type: ignore[arg-type]
        span = _span(bounds.get("low"), bounds.get("high"), digits)
        rows.append((LABELS.get(key, key), number(given.get(key), digits), span, went))
    return tuple(rows)


def _scores(record: Record, eligible: bool) -> list[Table]:
    tables = []
    for name, found in record.scenarios.items():
        given = mapping(found.get("accuracy"))
        if not any(key in given for key in rules.ROUGE_KEYS):
            continue
        rows = _score_rows(given, record.category, eligible)
        notes = (
            []
            if eligible
            else ["The targets are for the real model on the whole real set: not applied here."]
        )
        overlap = mapping(given.get("word_overlap"))
        if overlap.get("unigram_f1") is not None:
            notes.append(f"{overlap['unigram_f1']} by {overlap.get('label', 'word overlap')}.")
        note = " ".join(notes)
        tables.append(Table(("score", "this run", "target", ""), rows, "lrrl", f"Accuracy, {name}", note))
    return tables


def _complaints(record: Record) -> list[Block]:
    """What LoadGen itself gave as reasons for INVALID, and its error lines."""
    found = []
    for name, parts in record.scenarios.items():
        given = mapping(parts.get("performance"))
        for key, words in (("invalid_reasons", "INVALID"), ("loadgen_errors", "error")):
            found += [f"{name}, LoadGen's {words}: {text}" for text in given.get(key) or []]
    return [Text(text, "bad") for text in found]


def section(record: Record) -> Section:
    eligible = not record.not_eligible()
    blocks: list[Block] = [_performance(record), *_complaints(record), *_scores(record, eligible)]
    failed = failed_checks(record)
    if failed:
        rows = tuple((word(c.get("name")), word(c.get("detail")), word(c.get("fix"))) for c in failed)
        # A run that is no result fails dozens of them: the banner has said why.
        title = f"What stands against submitting: {len(failed)} checks"
        blocks.append(Table(("check", "found", "remedy"), rows, "lll", title, folded=not eligible))
    blocks += [*published_comparison.published_results(record), *published_comparison.card_limit(record)]
    if record.gaps:
        blocks.append(Text("Missing records:", "warn"))
        blocks.append(Items(record.gaps))
    return Section("The answer", tuple(blocks))
