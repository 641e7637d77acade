"""How long a LoadGen run is, worked out beforehand, and the files that ask for it.

LoadGen decides how many samples it issues from user.conf; the same arithmetic here
gives the count and the time before anything starts.

Sources: mlcommons/inference loadgen/test_settings_internal.cc (effective settings),
loadgen.cc (GenerateQueries), mlperf.conf, and compliance/TEST06/audit.config.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .. import rules
from ..errors import UsageError
from . import few

# mlperf.conf: what applies where user.conf says nothing.
DEFAULT_TARGET_QPS = 1.0
DEFAULT_EXPECTED_LATENCY_MS = 10.0
# test_settings.h: min_query_count; mlperf.conf raises it to the whole set in Offline.
DEFAULT_MIN_QUERIES = 100
# test_settings_internal.cc: Offline asks for 10% more, SingleStream for twice as much.
OFFLINE_SLACK = 1.1
SINGLE_STREAM_SLACK = 2.0
# What LoadGen and its peer keep of a query: 22.9 GB were in use at 29 million (no pace, fake engine).
BYTES_PER_QUERY = 800
# compliance/TEST06/audit.config.
AUDIT_QUERIES = 100
AUDIT_SETTINGS = {
    "mode": 2,
    "accuracy_log_rng_seed": 720381539243781796,
    "accuracy_log_sampling_target": 100,
    "min_query_count": AUDIT_QUERIES,
    "min_duration": 0,
    "sample_concatenate_permutation": 0,
}


@dataclass(frozen=True)
class Plan:
    """One LoadGen run, as it will be requested.

    `expected_queries` counts samples (Offline sends them as one query); in SingleStream
    it is the least number. `expected_seconds` is None where it hangs on a speed nobody gave.
    `least_queries`: min_query_count of the performance run; `audit_queries`: that of TEST06.
    `too_few`: why the run sends too few queries to be judged; empty where it sends enough.
    """

    round: str
    category: str
    scenario: str
    mode: str
    loadgen_model: str
    sample_count: int
    full_sample_count: int
    min_duration_ms: int
    target_qps: float | None
    expected_latency_ms: float | None
    expected_queries: int
    expected_seconds: float | None
    shortened: bool
    least_queries: int
    audit_queries: int
    too_few: str

    @property
    def loadgen_version(self) -> str:
        return rules.ROUNDS[self.round].loadgen_version

    @property
    def loadgen_scenario(self) -> str:
        return rules.loadgen_scenario(self.scenario)

    @property
    def streaming(self) -> bool:
        """LoadGen wants to know each first token, except in Offline."""
        return self.scenario != rules.OFFLINE


def make_plan(
    round: str,
    category: str,
    scenario: str,
    mode: str,
    sample_count: int,
    full_sample_count: int,
    duration_s: float | None = None,
    target_qps: float | None = None,
    expected_latency_ms: float | None = None,
) -> Plan:
    """Plan one run; None takes the benchmark's duration and LoadGen's default speeds."""
    if not 1 <= sample_count <= full_sample_count:
        raise UsageError(f"SAMPLES: expected 1 to {full_sample_count}, found {sample_count}")
    if scenario not in rules.CATEGORY_SCENARIOS[category]:
        raise UsageError(
            f"SCENARIO: expected one of {', '.join(rules.CATEGORY_SCENARIOS[category])} "
            f"for category {category}, found {scenario}"
        )
    duration_ms = milliseconds(rules.MIN_DURATION_S if duration_s is None else duration_s)
    single = scenario == rules.SINGLE_STREAM
    qps = None if single else (target_qps or DEFAULT_TARGET_QPS)
    latency_ms = (expected_latency_ms or DEFAULT_EXPECTED_LATENCY_MS) if single else None
    shortened = sample_count < full_sample_count or duration_ms < milliseconds(rules.MIN_DURATION_S)
    seed = rules.ROUNDS[round].schedule_rng_seed
    rate = qps or 1000 / (latency_ms or DEFAULT_EXPECTED_LATENCY_MS)
    least = _min_queries(scenario, sample_count, duration_ms / 1000, rate, shortened)
    audited = few.limited(AUDIT_QUERIES, 1, duration_ms / 1000, rate) if shortened else AUDIT_QUERIES
    too_few = ""
    if mode == "compliance":
        queries, seconds = _plain(scenario, audited, seed, qps, latency_ms)
        too_few = few.too_few_for_test06(audited, AUDIT_QUERIES, rate)
    elif mode == "accuracy":
        queries, seconds = _plain(scenario, sample_count, seed, qps, latency_ms)
    elif qps is None:
        assert latency_ms is not None
        queries, seconds = _single_stream(sample_count, least, duration_ms, latency_ms)
    elif scenario == rules.OFFLINE:
        needed = max(least, int(OFFLINE_SLACK * (duration_ms / 1000) * qps))
        queries = whole_passes(needed, sample_count)
        seconds = queries / qps
    else:
        queries, seconds = _server(sample_count, least, duration_ms, seed, qps)
    if mode == "performance" and shortened:
        too_few = few.too_few(scenario, queries, rate)
    return Plan(
        round=round,
        category=category,
        scenario=scenario,
        mode=mode,
        loadgen_model=rules.loadgen_model(category, scenario),
        sample_count=sample_count,
        full_sample_count=full_sample_count,
        min_duration_ms=duration_ms,
        target_qps=qps,
        expected_latency_ms=latency_ms,
        expected_queries=queries,
        # Offline ends when the engine is done: without a stated speed nobody knows when.
        expected_seconds=None if scenario == rules.OFFLINE and target_qps is None else seconds,
        shortened=shortened,
        least_queries=least,
        audit_queries=audited,
        too_few=too_few,
    )


def wanted_queries(scenario: str, duration_s: float, speed: float) -> float:
    """About how many queries a performance run issues, whole passes aside. `speed`: queries per second,
    in SingleStream milliseconds each."""
    if scenario == rules.SINGLE_STREAM:
        return SINGLE_STREAM_SLACK * duration_s * 1000 / speed
    return duration_s * speed * (OFFLINE_SLACK if scenario == rules.OFFLINE else 1.0)


def milliseconds(seconds: float) -> int:
    """LoadGen reads whole milliseconds."""
    return math.floor(seconds * 1000 + 0.5)


def whole_passes(count: int, sample_count: int) -> int:
    """Equal issue (sample_concatenate_permutation) rounds up to whole passes over the set."""
    return -(-count // sample_count) * sample_count


def _min_queries(scenario: str, sample_count: int, duration_s: float, rate: float, shortened: bool) -> int:
    """min_query_count as LoadGen will see it: mlperf.conf's, or what user_conf() sets in a shortened run."""
    if scenario == rules.OFFLINE:
        return sample_count
    if not shortened:
        return DEFAULT_MIN_QUERIES
    wanted = few.EARLY_STOPPING_QUERIES[scenario]
    least = few.limited(wanted, sample_count, duration_s, rate)
    # SingleStream goes on to the next pass from a whole one, too.
    return max(1, least - 1) if scenario == rules.SINGLE_STREAM and least < wanted else least


def _plain(
    scenario: str, count: int, seed: int, qps: float | None, latency_ms: float | None
) -> tuple[int, float]:
    """A run of exactly `count` samples: the accuracy run and TEST06, which know no duration."""
    if qps is None:
        assert latency_ms is not None
        return count, count * latency_ms / 1000
    if scenario == rules.OFFLINE:
        return count, count / qps
    return count, int(schedule_ns(seed, qps, count)[-1]) / 1e9


def _single_stream(count: int, least: int, duration_ms: int, latency_ms: float) -> tuple[int, float]:
    """Twice what the expected latency fits into the duration, then always up to the next pass."""
    needed = max(least, int(SINGLE_STREAM_SLACK * (duration_ms / 1000) * (1e9 / (latency_ms * 1e6))))
    queries = needed + count - needed % count
    return queries, max(duration_ms / 1000, queries * latency_ms / 1000)


def _server(count: int, least: int, duration_ms: int, seed: int, qps: float) -> tuple[int, float]:
    """Whole passes until the last query is due at or after the duration's end."""
    least, duration_ns = whole_passes(least, count), duration_ms * 1_000_000
    size = least + math.ceil(1.2 * qps * duration_ms / 1000) + 2 * count + 1000
    times = schedule_ns(seed, qps, size)
    while times[-count] < duration_ns:
        size *= 2
        times = schedule_ns(seed, qps, size)
    due = int(np.searchsorted(times, duration_ns))
    queries = max(least, whole_passes(due + 1, count))
    return queries, int(times[queries - 1]) / 1e9


def schedule_ns(seed: int, qps: float, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """When the first `count` Server queries are due, in nanoseconds from the start.

    The same numbers as LoadGen's: std::mt19937, libstdc++'s generate_canonical over two
    draws, std::exponential_distribution, each gap cut to whole nanoseconds.
    """
    draws = np.random.RandomState(seed % 2**32).randint(0, 2**32, size=2 * (count - 1), dtype=np.uint32)
    low, high = draws[0::2].astype(np.float64), draws[1::2].astype(np.float64)
    unit = np.minimum((low + high * 2.0**32) / 2.0**64, np.nextafter(1.0, 0.0))
    gaps_ns = (-np.log(1.0 - unit) / qps * 1e9).astype(np.int64)
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(gaps_ns)))


def user_conf(plan: Plan) -> str:
    """user.conf of a plan, the same for every mode of a scenario.

    A full run states only its speed, which a closed submission may. LoadGen wants spaces
    around the equals sign.
    """
    settings: dict[str, float] = {}
    if plan.target_qps is not None:
        settings["target_qps"] = plan.target_qps
    if plan.expected_latency_ms is not None:
        settings["target_latency"] = plan.expected_latency_ms
    if plan.shortened:
        settings["min_duration"] = plan.min_duration_ms
        settings["min_query_count"] = plan.least_queries
        settings["performance_sample_count_override"] = plan.sample_count
    return "".join(f"*.{plan.loadgen_scenario}.{key} = {value!r}\n" for key, value in settings.items())


def audit_conf(plan: Plan) -> str:
    """TEST06's audit.config; a shortened run may ask for fewer queries than the official one."""
    settings = {**AUDIT_SETTINGS, "min_query_count": plan.audit_queries}
    return "".join(f"*.*.{key} = {value}\n" for key, value in settings.items())
