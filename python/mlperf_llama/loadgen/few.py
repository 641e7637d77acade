"""Shortened runs: how many queries they send at most, and what so few of them show.

LoadGen's early stopping asks for hundreds of queries before it calls a run VALID, which is hours on a CPU. A
shortened run is no result anyway, so it sends what fits into a minute, or into DURATION_S where that is more.

Source: mlcommons/inference loadgen/early_stopping.cc.
"""

from __future__ import annotations

import math

from .. import rules
from .logs import Detail

# A shortened run's queries end after this time, or after DURATION_S where that is longer.
LONGEST_S = 60.0
# early_stopping.cc: how sure it wants to be.
CONFIDENCE = 0.99
# early_stopping.cc at this confidence: with fewer queries no run is VALID. Server: none over the limit at the
# 99th percentile; SingleStream: an estimate of the 90th.
EARLY_STOPPING_QUERIES = {rules.SERVER: 459, rules.INTERACTIVE: 459, rules.SINGLE_STREAM: 64}
PERCENTILE = {rules.SERVER: "p99", rules.INTERACTIVE: "p99", rules.SINGLE_STREAM: "p90"}
# The longest time to the first token, and per token after it (results.cc).
LONGEST = ("result_first_token_max_latency_ns", "result_time_to_output_token_max")
NS_PER_MS = 1e6


def limited(wanted: int, sample_count: int, duration_s: float, queries_per_s: float) -> int:
    """`wanted` queries; or, where they take too long, the whole passes over the samples that do not (one at
    least)."""
    fitting = int(max(LONGEST_S, duration_s) * queries_per_s)
    if wanted <= fitting:
        return wanted
    return min(wanted, max(1, fitting // sample_count) * sample_count)


def too_few(scenario: str, queries: int, queries_per_s: float) -> str:
    """Why a performance run of so many queries is not judged; empty where it is."""
    needed = EARLY_STOPPING_QUERIES.get(scenario, 0)
    if queries >= needed:
        return ""
    remedy = _remedy(queries, needed, queries_per_s)
    return f"too few queries for a {PERCENTILE[scenario]}: not judged ({remedy})"


def too_few_for_test06(queries: int, needed: int, queries_per_s: float) -> str:
    """The same of a TEST06 run."""
    if queries >= needed:
        return ""
    return f"too few responses for TEST06: not judged ({_remedy(queries, needed, queries_per_s)})"


def _remedy(queries: int, needed: int, queries_per_s: float) -> str:
    seconds = math.ceil(needed / queries_per_s)
    return f"{queries} of {needed}; DURATION_S={seconds} sends enough"


def not_judged(detail: Detail, scenario: str, reason: str) -> str:
    """`reason`, and what so few queries show; empty where LoadGen's INVALID has another cause."""
    unmet = (detail.get(f"result_min_{name}_met") is False for name in ("duration", "queries"))
    if not reason or detail.errors or any(unmet):
        return ""
    limits = rules.TOKEN_LATENCY_LIMITS_MS.get(scenario)
    queries = detail.number("result_query_count")
    longest_ns = [detail.number(key) for key in LONGEST]
    if limits is None or not queries or None in longest_ns:
        return reason
    over = [
        f"{name} up to {ns / NS_PER_MS:,.0f} ms of {limit:g}"
        for name, ns, limit in zip(("TTFT", "TPOT"), longest_ns, limits, strict=True)
        if ns is not None and ns >= limit * NS_PER_MS
    ]
    return f"{reason}; {', '.join(over) or f'all within the limits, which shows a p{carried(int(queries))}'}"


def carried(queries: int) -> int:
    """The highest percentile that so many queries show, none of them over the limit."""
    return math.floor(100 * math.pow(1 - CONFIDENCE, 1 / queries) + 1e-9)
