"""Checks of a performance run's detail log: validity, length of the run, figures, latencies."""

from __future__ import annotations

from .. import rules
from ..loadgen import logs
from ..records.schema import Check
from . import summary
from .check import at_least, below, check, equal
from .evidence import ModeLogs, ScenarioEvidence

NS_PER_MS = 1e6
# LoadGen logs six significant digits; the mean may round up past 128 by this much.
ROUNDING = 1e-5
# checker: latency-constraint of Server, and of Interactive, which LoadGen runs as Server.
TARGET_LATENCY_NS = 20e9
# What MLCommons' checker reads as a result (RESULT_FIELD_NEW and what overwrites it for this benchmark).
FIGURES = {
    rules.OFFLINE: ("result_samples_per_second", "result_tokens_per_second"),
    rules.SERVER: ("result_completed_samples_per_sec", "result_completed_tokens_per_second"),
    rules.INTERACTIVE: ("result_completed_samples_per_sec", "result_completed_tokens_per_second"),
    rules.SINGLE_STREAM: ("early_stopping_latency_ss", logs.LATENCY_P90),
}


def checks(scenario: ScenarioEvidence) -> list[Check]:
    """What must hold in the performance run."""
    log, name = scenario.performance, scenario.name
    result = [
        _valid(scenario),
        equal(
            f"{name}.equal_issue",
            log.get("effective_sample_concatenate_permutation"),
            True,
            "run with LoadGen's own model name, which issues every sample equally often",
        ),
        at_least(
            f"{name}.min_duration",
            log.number("effective_min_duration_ms"),
            rules.MIN_DURATION_S * 1000,
            " ms",
            "run without DURATION_S",
        ),
        at_least(
            f"{name}.lasted",
            log.detail.measured_s if log.detail else None,
            rules.MIN_DURATION_S,
            " s",
            "raise TARGET_QPS (SingleStream: lower EXPECTED_LATENCY_MS), so that LoadGen makes more queries",
        ),
        _passes(scenario),
        _mean_tokens(scenario),
        summary.check_summary(scenario),
    ]
    # Of another scenario's log that scenario's name says enough.
    if log.get("effective_scenario") == rules.loadgen_scenario(name):
        result += [_figures(scenario), *(_query(scenario) if name == rules.OFFLINE else [])]
    if name == rules.SINGLE_STREAM or name in rules.TOKEN_LATENCY_LIMITS_MS:
        result.append(
            equal(
                f"{name}.early_stopping",
                log.get("early_stopping_met"),
                True,
                "run longer, or lower TARGET_QPS",
            )
        )
    return result + token_latencies(scenario)


def _valid(scenario: ScenarioEvidence) -> Check:
    reason = str(scenario.performance.get("result_invalid_reason") or "").strip()
    validity = scenario.performance.get("result_validity")
    recorded = scenario.recorded.performance
    not_judged = (recorded.not_judged if recorded else None) or ""
    detail = f"LoadGen says {validity}" + (f": {reason}" if reason else "")
    return check(
        f"{scenario.name}.valid",
        validity == "VALID",
        detail if validity == "VALID" else not_judged or detail,
        reason or "see mlperf_log_summary.txt for what LoadGen asks for",
    )


def _passes(scenario: ScenarioEvidence) -> Check:
    """Queries made and answered: whole passes over the dataset, none left out."""
    log = scenario.performance
    queries = log.number("generated_query_count") or 0
    per_query = log.number("generated_samples_per_query") or 0
    answered = (log.number("result_query_count") or 0) * per_query
    made, full = queries * per_query, scenario.full_count
    return check(
        f"{scenario.name}.whole_passes",
        made > 0 and made % full == 0 and answered == made,
        f"{answered:g} of {made:g} samples answered, passes of {full}",
        "run again; LoadGen rounds up to whole passes only under its own model name, and "
        "SingleStream must expect no more queries than it needs (raise EXPECTED_LATENCY_MS)",
    )


def _figures(scenario: ScenarioEvidence) -> Check:
    """The results as MLCommons' checker reads them: a missing one, or 0, is no result to it."""
    figures = {key: scenario.performance.number(key) for key in FIGURES[scenario.name]}
    return check(
        f"{scenario.name}.figures",
        all(value is not None and value > 0 for value in figures.values()),
        ", ".join(f"{key} {value}" for key, value in figures.items()),
        "run again; LoadGen must come to its end",
    )


def _query(scenario: ScenarioEvidence) -> list[Check]:
    """Offline's one query, as asked for: MLCommons' checker wants the whole set in it (closed division)."""
    samples = scenario.performance.number("effective_samples_per_query")
    queries = scenario.performance.number("effective_min_query_count")
    fix = "raise TARGET_QPS to what the machine does"
    full, name = scenario.full_count, scenario.name
    return [
        at_least(f"{name}.samples_per_query", samples, full, " samples per query", fix),
        at_least(f"{name}.min_queries", samples and queries, 1, " query", "run again"),
    ]


def _mean_tokens(scenario: ScenarioEvidence) -> Check:
    """Tokens per sample, on average: at most 128, or the counts are not what was generated."""
    mean, name = mean_tokens(scenario.performance), f"{scenario.name}.mean_tokens"
    fix = (
        f"end every response at {rules.MAX_NEW_TOKENS} tokens, in any division, and count the tokens the "
        "engine generated, not text tokenised again"
    )
    if mean is None:
        return Check(name, False, "LoadGen logged no tokens per second", fix)
    limit = rules.MAX_NEW_TOKENS
    detail = f"{mean:.2f} tokens per sample, at most {limit}"
    return check(name, 1 <= mean <= limit * (1 + ROUNDING), detail, fix)


def mean_tokens(log: ModeLogs) -> float | None:
    """Tokens per sample out of LoadGen's rates; None where it logged none."""
    queries = log.number("result_query_count") or 0
    # results.cc: Server's samples per second leave the first query out, its tokens do not.
    pairs = (
        ("result_tokens_per_second", "result_samples_per_second", 1.0),
        ("result_completed_tokens_per_second", "result_completed_samples_per_sec", 1 - 1 / max(queries, 2)),
        ("result_completed_tokens_per_second", "result_qps_with_loadgen_overhead", 1.0),
    )
    for tokens_key, samples_key, share in pairs:
        tokens, samples = log.number(tokens_key), log.number(samples_key)
        if tokens and samples:
            return tokens / samples * share
    return None


def token_latencies(scenario: ScenarioEvidence) -> list[Check]:
    """TTFT and TPOT at the 99th percentile, for the scenarios that limit them."""
    limits = rules.TOKEN_LATENCY_LIMITS_MS.get(scenario.name)
    if limits is None:
        return []
    fix = "lower TARGET_QPS, or cap the prefill tokens per step (`make tune` searches both)"
    target_ns = scenario.performance.number("effective_target_latency_ns")
    return [
        check(
            f"{scenario.name}.target_latency",
            target_ns is not None and target_ns <= TARGET_LATENCY_NS,
            f"effective_target_latency_ns {target_ns}, at most {TARGET_LATENCY_NS:.0f}",
            "leave target_latency out of user.conf",
        ),
        *(
            below(f"{scenario.name}.{name}_p99", _ms(scenario.performance, key), limit, " ms", fix)
            for name, key, limit in (("ttft", logs.TTFT_P99, limits[0]), ("tpot", logs.TPOT_P99, limits[1]))
        ),
    ]


def _ms(log: ModeLogs, key: str) -> float | None:
    number = log.number(key)
    return None if number is None else number / NS_PER_MS
