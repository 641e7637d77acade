"""LoadGen's summary against its detail log: people read the first, every check the second."""

from __future__ import annotations

import re

from ..loadgen import logs
from ..records.schema import Check
from .check import check, first
from .evidence import ScenarioEvidence

# A line's words -> the detail log's key (loadgen/results.cc writes both from the same number).
NUMBERS = {
    "Samples per second": "result_samples_per_second",
    "Tokens per second": "result_tokens_per_second",
    "Completed samples per second": "result_completed_samples_per_sec",
    "Completed tokens per second": "result_completed_tokens_per_second",
    "QPS w/ loadgen overhead": "result_qps_with_loadgen_overhead",
    "Min latency (ns)": "result_min_latency_ns",
    "Max latency (ns)": "result_max_latency_ns",
    "Mean latency (ns)": "result_mean_latency_ns",
    "90.00 percentile latency (ns)": logs.LATENCY_P90,
    "99.00 percentile latency (ns)": "result_99.00_percentile_latency_ns",
    "99.00 percentile first token latency (ns)": logs.TTFT_P99,
    "99.00 percentile time to output token (ns)": logs.TPOT_P99,
    "target_qps": "effective_target_qps",
    "min_duration (ms)": "effective_min_duration_ms",
    "qsl_rng_seed": "effective_qsl_rng_seed",
    "sample_index_rng_seed": "effective_sample_index_rng_seed",
    "schedule_rng_seed": "effective_schedule_rng_seed",
    "performance_sample_count": "effective_performance_sample_count",
}
WORDS = {
    "Result is": "result_validity",
    "Scenario": "effective_scenario",
    "Mode": "effective_test_mode",
}
EXACT = ("_seed", "_count")
LINE = re.compile(r"\s*(.+?)\s*:\s*(\S+)\s*")
# Both round the same number: the summary to two decimals or six digits, the detail log to six digits.
RELATIVE, ABSOLUTE = 1e-5, 0.0051


def check_summary(scenario: ScenarioEvidence) -> Check:
    """Whatever the summary states must be what the detail log says."""
    path = scenario.performance.path / logs.SUMMARY
    fix = "use both logs as LoadGen wrote them"
    name = f"{scenario.name}.summary"
    if not path.is_file():
        return Check(name, False, f"no {logs.SUMMARY}", fix)
    faults = contradictions(path.read_text(encoding="utf-8", errors="replace"), scenario.performance.detail)
    return check(name, not faults, first(faults) or "says what the detail log says", fix)


def contradictions(text: str, detail: logs.Detail | None) -> list[str]:
    """Each line of the summary that the detail log says otherwise."""
    faults = []
    for match in filter(None, map(LINE.fullmatch, text.splitlines())):
        words, stated = match.groups()
        key = NUMBERS.get(words) or WORDS.get(words)
        logged = detail.get(key) if detail is not None and key else None
        if key and logged is not None and not _agree(words, stated, logged):
            faults.append(f"the summary says {words}: {stated}, the detail log {key} {logged}")
    return faults


def _agree(words: str, stated: str, logged: object) -> bool:
    if words in WORDS or words.endswith(EXACT):
        return stated == str(logged)
    try:
        value = float(stated)
    except ValueError:
        return False
    return isinstance(logged, int | float) and abs(value - logged) <= max(ABSOLUTE, RELATIVE * abs(logged))
