"""The report's first part: submittable or not, speed and its limits, scores, failed checks."""

from __future__ import annotations

from .. import rules
from ..records.schema import FAILED, INTERRUPTED, RUNNING, Accuracy, Check, Target
from ..score import gate
from . import bottleneck, gpu_limit, outcome, published_bars
from .blocks import NOTHING, TONES, Banner, Block, Items, Section, Table, Text, number, time, word
from .run import UNKNOWN, Run

LABELS = {"gen_len": "gen_len (characters)", "gen_num": "gen_num (samples)"}
NOT_A_RESULT = "Not an MLPerf result"
# An unfinished run's first line.
UNFINISHED = {
    RUNNING: "This run has not finished, or was killed without a chance to say so.",
    INTERRUPTED: "This run was interrupted. What was finished is below.",
    FAILED: "This run failed. What was finished is below.",
    UNKNOWN: "This folder holds no results.",
}


def banner(run: Run) -> Banner:
    """The one answer: submittable, not submittable, or no MLPerf result at all."""
    status = run.results.status
    lines = [UNFINISHED[status]] if status in UNFINISHED else []
    reasons = run.not_eligible()
    if reasons:
        return Banner(NOT_A_RESULT, (*lines, *reasons), "bad")
    if run.verdict is None:
        return Banner("Not judged", (*lines, "There is no verdict.json; `make report` judges again."), "warn")
    failed = failed_checks(run)
    if run.verdict.submittable and not failed and not lines:
        return Banner("Submittable", ("Every check passed.",), "good")
    lines.append(f"{len(failed)} of {len(checks(run))} checks failed. Each is listed below with its remedy.")
    return Banner("Not submittable", tuple(lines), "bad")


def checks(run: Run) -> tuple[Check, ...]:
    return run.verdict.checks if run.verdict else ()


def failed_checks(run: Run) -> list[Check]:
    return [check for check in checks(run) if not check.passed]


def _with_limit(value: float | None, limit: float | None) -> str:
    if value is None:
        return NOTHING
    return number(float(value), 1) + (f" of {limit:g}" if limit is not None else "")


def _performance(run: Run) -> Table:
    rows = []
    for name, scenario in run.scenarios.items():
        measured = scenario.performance
        if measured is None:
            rows.append((name, "not run", *[NOTHING] * 7))
            continue
        ttft, tpot = rules.TOKEN_LATENCY_LIMITS_MS.get(name, (None, None))
        rows.append(
            (
                name,
                measured.validity,
                number(measured.samples_per_second),
                number(measured.tokens_per_second, 1),
                _with_limit(measured.ttft_p99_ms, ttft),
                _with_limit(measured.tpot_p99_ms, tpot),
                _with_limit(measured.latency_p90_ms, None),
                word(measured.samples_processed),
                time(measured.total_time_seconds),
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
    return Table((*heads, "samples", "time"), tuple(rows), "llrrrrrrr", "Performance")


def _bounds(target: Target | None, digits: int) -> str:
    if target is None:
        return NOTHING
    if target.high is None or target.high == target.low:
        return number(target.low, digits)
    return f"{number(target.low, digits)} to {number(target.high, digits)}"


def _score_rows(accuracy: Accuracy) -> tuple[tuple[str, ...], ...]:
    """One row per score: what was reached, its target and how it went, as the scorer recorded them."""
    outcomes = {True: "reached", False: "missed", None: NOTHING}
    rows = []
    for key in gate.KEYS:
        digits = 4 if key in rules.ROUGE_KEYS else 0
        target = (accuracy.targets or {}).get(key)
        outcome = outcomes[target.met if target else None]
        value = number(getattr(accuracy, key), digits)
        rows.append((LABELS.get(key, key), value, _bounds(target, digits), outcome))
    return tuple(rows)


def _scores(run: Run, eligible: bool) -> list[Table]:
    tables = []
    for name, scenario in run.scenarios.items():
        accuracy = scenario.accuracy
        if accuracy is None or accuracy.rouge1 is None:
            continue
        notes = []
        if not eligible:
            notes.append("The targets are for the real model on the whole real set: not applied here.")
        if accuracy.word_overlap:
            notes.append(f"{accuracy.word_overlap.unigram_f1} by {accuracy.word_overlap.label}.")
        heads = ("score", "this run", "target", "")
        tables.append(Table(heads, _score_rows(accuracy), "lrrl", f"Accuracy, {name}", " ".join(notes)))
    return tables


def _outcomes(run: Run) -> list[Block]:
    """Each performance run in a sentence: the figure, its limit, the room or what to change."""
    return [
        Text(
            outcome.performance(name, scenario.performance, outcome.asked(run.logs.get(name, {}))),
            TONES.get(scenario.performance.loadgen_result, "plain"),
        )
        for name, scenario in run.scenarios.items()
        if scenario.performance and not scenario.performance.not_judged
    ]


def _complaints(run: Run) -> list[Block]:
    """What LoadGen itself gave as reasons for INVALID, and its error lines; or why a run is not judged."""
    blocks: list[Block] = []
    for name, scenario in run.scenarios.items():
        measured, test06 = scenario.performance, scenario.compliance
        for part in (measured, test06):
            if part and part.not_judged:
                blocks.append(Text(f"{name}: {part.not_judged}.", "warn"))
        if measured and not measured.not_judged:
            reasons = [f"{name}, LoadGen's INVALID: {text}" for text in measured.invalid_reasons]
            errors = [f"{name}, LoadGen's error: {text}" for text in measured.loadgen_errors]
            blocks += [Text(line) for line in (*reasons, *errors)]
    return blocks


def section(run: Run) -> Section:
    eligible = not run.not_eligible()
    limits = [words for name in run.scenarios if (words := bottleneck.of(run, name))]
    blocks: list[Block] = [_performance(run), *_outcomes(run), *map(Text, limits), *_complaints(run)]
    blocks += [*published_bars.blocks(run), *gpu_limit.blocks(run), *_scores(run, eligible)]
    failed = failed_checks(run)
    if failed:
        rows = tuple((check.name, word(check.detail), word(check.fix)) for check in failed)
        # A run that is no result fails dozens of them: the banner has said why.
        title, heads = f"Failed checks: {len(failed)}", ("check", "result", "remedy")
        blocks.append(Table(heads, rows, "lll", title, folded=not eligible, printed=True))
    if run.gaps:
        blocks.append(Text("Missing records:", "warn"))
        blocks.append(Items(run.gaps))
    return Section("Result", tuple(blocks))
