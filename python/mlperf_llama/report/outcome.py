"""What came of each LoadGen run, a sentence each: the figure, the limit beside it, and what to change.

The limits stand beside the figures whatever the run may be called: an engineer reads them of any run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .. import rules
from ..records.schema import NOT_JUDGED, Accuracy, Compliance, Performance, Target

# How far a rule of thumb goes: beyond it `make tune` searches.
MOST_LOWER, MOST_HIGHER = 0.5, 1.25
# TTFT grows slowly until an engine is nearly full, then at once: of its room only this much is load.
TTFT_SHARE = 0.3
# TTFT that is over its limit by a share asks for about so much of that share less load.
TTFT_CUT = 0.45
# Less room than this is none.
LEAST_ROOM = 0.03
# A rate that an Offline run is sized by, above the speed it reached.
OFFLINE_RATE = 1.05


@dataclass(frozen=True)
class Asked:
    """What LoadGen was asked for: queries per second (None in SingleStream) and the least seconds."""

    target_qps: float | None = None
    min_duration_s: float = rules.MIN_DURATION_S


@dataclass(frozen=True)
class Latency:
    """A latency's 99th percentile and its limit, in ms."""

    name: str
    value: float
    limit: float

    @property
    def excess(self) -> float:
        """Over the limit, as a share of it; below zero is room."""
        return self.value / self.limit - 1


def asked(detail: Mapping[str, object]) -> Asked:
    """From LoadGen's detail log; empty where there is none."""
    qps, milliseconds = detail.get("effective_target_qps"), detail.get("effective_min_duration_ms")
    return Asked(
        float(qps) if isinstance(qps, int | float) else None,
        milliseconds / 1000 if isinstance(milliseconds, int | float) else rules.MIN_DURATION_S,
    )


def performance(scenario: str, record: Performance, wanted: Asked) -> str:
    """The sentence of a performance run."""
    if record.not_judged:
        return f"{scenario}: {record.not_judged.rstrip('.')}."
    limited = token_latencies(scenario, record)
    return _limited(scenario, record, wanted, limited) if limited else _unlimited(scenario, record, wanted)


def token_latencies(scenario: str, record: Performance) -> list[Latency]:
    """TTFT and TPOT beside their limits; empty where the scenario has none or one was not measured."""
    limits_ms = rules.TOKEN_LATENCY_LIMITS_MS.get(scenario)
    if limits_ms is None or record.ttft_p99_ms is None or record.tpot_p99_ms is None:
        return []
    ttft, tpot = limits_ms
    return [Latency("TTFT", record.ttft_p99_ms, ttft), Latency("TPOT", record.tpot_p99_ms, tpot)]


def nearest(limited: Sequence[Latency]) -> Latency | None:
    """The one nearest to its limit, or furthest over it."""
    return max(limited, key=lambda each: each.excess, default=None)


def _limited(scenario: str, record: Performance, wanted: Asked, latencies: list[Latency]) -> str:
    """Server and Interactive."""
    over = [each for each in latencies if each.excess > 0]
    if record.loadgen_result == "VALID":
        ttft, tpot = (f"in {each.name} (p99 {_ms(each.value)} of {_ms(each.limit)} ms)" for each in latencies)
        rooms = [percent(max(0.0, -each.excess)) for each in latencies]
        return f"{scenario} VALID with {rooms[0]} room {ttft}, {rooms[1]} {tpot}{_holds(wanted, latencies)}."
    figures = "; ".join(map(_figure, sorted(latencies, key=lambda each: -each.excess)))
    if over:
        return f"{scenario} {record.loadgen_result}: {figures}.{_lower(record, wanted, over)}"
    return f"{scenario} {record.loadgen_result}: {figures}. {_reasons(record)}"


def _figure(each: Latency) -> str:
    if each.excess > 0:
        much = f"{1 + each.excess:.0f} times as much" if each.excess > 2 else f"{percent(each.excess)} over"
        return f"{each.name} p99 {_ms(each.value)} ms, limit {_ms(each.limit)} ({much})"
    return f"{each.name} p99 {_ms(each.value)} of {_ms(each.limit)} ms"


def _holds(wanted: Asked, latencies: list[Latency]) -> str:
    """The rate that the same settings would likely hold, by a rule of thumb."""
    if wanted.target_qps is None:
        return ""
    room = min(-each.excess * (TTFT_SHARE if each.name == "TTFT" else 1.0) for each in latencies)
    if room < LEAST_ROOM:
        return f"; {wanted.target_qps:g}/s is about the most that it holds"
    return f"; about {_about(wanted.target_qps * min(1 + room, MOST_HIGHER))}/s would likely hold"


def _lower(record: Performance, wanted: Asked, over: list[Latency]) -> str:
    """A rate that the limits would allow, by a rule of thumb. Where fewer queries were answered than came,
    no more than that."""
    if not wanted.target_qps:
        return ""
    share = min(1 - TTFT_CUT * each.excess if each.name == "TTFT" else 1 / (1 + each.excess) for each in over)
    rate = min(wanted.target_qps * max(share, MOST_LOWER), record.samples_per_second or wanted.target_qps)
    return f" Lower TARGET_QPS from {wanted.target_qps:g} to about {_about(rate)} (`make tune` finds it)."


def _unlimited(scenario: str, record: Performance, wanted: Asked) -> str:
    """Offline and SingleStream, which have no limit of latency, and what lacks its latencies."""
    seconds, least = record.total_time_seconds, wanted.min_duration_s
    rate = record.samples_per_second
    speed = f"{rate:,.0f} samples/s" if rate >= 1000 else f"{rate:.4g} samples/s"
    if record.latency_p90_ms is not None:
        speed = f"latency p90 {_ms(record.latency_p90_ms)} ms (no limit), {speed}"
    short = seconds < least and scenario in (rules.OFFLINE, rules.SINGLE_STREAM)
    length = f"ran {_s(seconds)} s of at least {_s(least)} s"
    if short:
        length += f" ({percent(1 - seconds / least)} short)"
    sentence = f"{scenario} {record.loadgen_result}: {speed}, {length}."
    if record.loadgen_result == "VALID":
        return sentence
    if short and scenario == rules.OFFLINE and wanted.target_qps:
        higher = _about(max(record.samples_per_second, wanted.target_qps) * OFFLINE_RATE)
        return f"{sentence} Raise TARGET_QPS from {wanted.target_qps:g} to about {higher}."
    return f"{sentence} {_reasons(record)}"


def _reasons(record: Performance) -> str:
    """LoadGen's own words."""
    texts = [text.strip().rstrip(".") for text in (*record.invalid_reasons, *record.loadgen_errors)]
    return f"LoadGen's reason: {'; '.join(texts[:3]) or 'none is in its log'}."


def accuracy(scenario: str, record: Accuracy) -> str:
    """The sentence of an accuracy run: the target that it missed, or came nearest to."""
    values = {key: getattr(record, key) for key in (*rules.ROUGE_KEYS, "gen_len")}
    targets = {k: t for k, t in (record.targets or {}).items() if values.get(k) is not None}
    if not targets:
        return f"{scenario} accuracy: not scored."

    def told(key: str, tell_room: bool = True) -> str:
        return f"{key} {_score(values[key])}, {_bound(values[key], targets[key], tell_room)}"

    missed = [key for key, target in targets.items() if target.met is False]
    if missed:
        return f"{scenario} accuracy missed: {'; '.join(map(told, missed))}."
    if any(target.met is None for target in targets.values()):
        text = told("rouge1", tell_room=False)
        return f"{scenario} accuracy: {text}, not applied, since the model or the data are others."
    tightest = min(targets, key=lambda each: abs(_room(values[each], targets[each])))
    return f"{scenario} accuracy reached; nearest to its limit: {told(tightest)}."


def _room(value: float, target: Target) -> float:
    """The share of the nearest bound that lies between; below zero: missed."""
    rooms = [value / target.low - 1] if target.low else []
    rooms += [1 - value / target.high] if target.high else []
    return min(rooms, default=0.0)


def _bound(value: float, target: Target, tell_room: bool = True) -> str:
    room = _room(value, target)
    above = target.high is not None and value > target.high
    bound = f"limit {_score(target.high)} or less" if above else f"limit {_score(target.low)} or more"
    if not tell_room:
        return bound
    return f"{bound} ({percent(abs(room))} {'room' if room >= 0 else 'over' if above else 'under'})"


def compliance(scenario: str, record: Compliance) -> str:
    """The sentence of TEST06."""
    if record.not_judged:
        return f"{scenario}: {record.not_judged.rstrip('.')}."
    word = NOT_JUDGED if record.passed is None else "passed" if record.passed else "failed"
    return f"{scenario} TEST06 {word}."


def percent(share: float) -> str:
    """41%, 3.2%, 0.04%: two digits below ten."""
    value = 100 * share
    return f"{value:.0f}%" if value >= 9.95 or value == 0 else f"{value:.2g}%"


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def _s(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _score(value: float | None) -> str:
    if value is None:
        return "none"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4f}"


def _about(value: float) -> str:
    """A rate that is only about right, rounded down: 11, 66, 0.37, 451."""
    unit = 10.0 ** (math.floor(math.log10(value)) - (1 if value < 100 else 2))
    return f"{math.floor(value / unit + 1e-9) * unit:.6g}"
