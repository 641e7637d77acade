"""From a short probe to the full-length run: what LoadGen's whole schedule would make of it.

A short run at a load just over an engine's capacity still looks VALID, because its queue had
no time to grow. So the waits of a probe are taken for those of one queue, whose service time
follows from them, and that queue then goes through LoadGen's whole schedule, which is known
beforehand (its seed is the round's). Time per token answers to the load of the last seconds:
there the schedule's busiest seconds, in the probe and in the full run, are set side by side.

Sources: D. V. Lindley 1952 (waits of a queue); mlcommons/inference loadgen/early_stopping.cc.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..loadgen import plan

Floats = NDArray[np.float64]
QUANTILE = 0.99
# LoadGen's early stopping: 99% sure that no more than 1% are over the limit.
CONFIDENCE = 0.99
# Bootstrap of a probe's blocks: how many blocks, how many draws, and the bound's two sides.
BLOCKS, DRAWS, SIDE = 12, 200, 0.10
# As many standard deviations lie on one side of SIDE. A batch is full with this share of its seats taken
# (some end in each step), most of the time.
DEVIATIONS, FULL, MOSTLY = 1.28, 0.95, 0.8
# A bisection this deep is exact to a millionth.
HALVINGS = 24


@dataclass(frozen=True)
class Requests:
    """What a probe's requests took, in the order of arrival (seconds from the first)."""

    arrival_s: Floats
    ttft_ms: Floats
    tpot_ms: Floats
    residence_s: Floats


@dataclass(frozen=True)
class Bound:
    """A value with the bounds that hold it in 80% of cases."""

    low: float
    point: float
    high: float


@dataclass(frozen=True)
class Goal:
    """The full-length run that a search is for: limits in ms, its schedule's seed and size."""

    ttft_ms: float
    tpot_ms: float
    seed: int
    sample_count: int
    duration_s: float

    def arrivals_s(self, qps: float) -> Floats:
        """When its queries are due at a load."""
        unit = _unit_schedule(self.seed, self._size(qps))
        due = int(np.searchsorted(unit, self.duration_s * qps))
        return unit[: plan.whole_passes(due + 1, self.sample_count)] / qps

    def _size(self, qps: float) -> int:
        needed = 1.3 * self.duration_s * qps + 2 * self.sample_count + 1000
        return int(2 ** math.ceil(math.log2(needed)))


@dataclass(frozen=True)
class Forecast:
    """The full-length run as a probe foretells it, at the probe's load.

    `ttft_qps`: the load at which a queue of this speed would just hold the TTFT limit.
    `tpot_qps`: the load of a full-length run whose busiest seconds are as busy as the probe's.
    `full`: every seat was taken, so `ttft_qps` follows from what was served, whatever the load.
    """

    ttft_ms: Bound
    tpot_ms: Bound
    ttft_qps: Bound
    tpot_qps: float
    full: bool = False

    def times(self, engines: int) -> Forecast:
        """Of so many engines like the one that was measured, which share the load."""
        ttft = self.ttft_qps
        loads = Bound(engines * ttft.low, engines * ttft.point, engines * ttft.high)
        return replace(self, ttft_qps=loads, tpot_qps=engines * self.tpot_qps)


@lru_cache(maxsize=4)
def _unit_schedule(seed: int, count: int) -> Floats:
    return plan.schedule_ns(seed, 1.0, count) / 1e9


@lru_cache(maxsize=256)
def allowed_over(count: int) -> int:
    """How many of `count` queries LoadGen lets be over a limit; -1: too few for any verdict."""
    share = 1 - QUANTILE
    total, log_term, over = 0.0, count * math.log(QUANTILE), -1
    while over < count:
        total += math.exp(log_term)
        if total > 1 - CONFIDENCE:
            break
        over += 1
        log_term += math.log((count - over) / (over + 1)) + math.log(share / QUANTILE)
    return over


def required_quantile(count: int) -> float:
    """The share of `count` latencies that has to be within the limit."""
    return min(1.0, 1 - max(0, allowed_over(count)) / max(1, count))


def waits_s(arrival_s: Floats, service_s: float) -> Floats:
    """How long each arrival waits in a queue with one server and a fixed service time."""
    slack = service_s * np.arange(len(arrival_s)) - arrival_s
    return np.asarray(slack - np.minimum.accumulate(slack))


def service_for(arrival_s: Floats, wait_s: float, quantile: float) -> float:
    """The service time whose queue has this wait at this quantile; 0 where nothing waits."""
    if wait_s <= 0 or len(arrival_s) < 2:
        return 0.0
    low, high = 0.0, 2 * float(arrival_s[-1]) / (len(arrival_s) - 1) + wait_s
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if np.quantile(waits_s(arrival_s, middle), quantile) < wait_s:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def full_wait_s(goal: Goal, qps: float, service_s: float) -> float:
    """The wait that decides a full-length run at `qps`."""
    arrivals = goal.arrivals_s(qps)
    return float(np.quantile(waits_s(arrivals, service_s), required_quantile(len(arrivals))))


def load_for_wait(goal: Goal, service_s: float, wait_s: float, most: float) -> float:
    """The highest load, up to `most`, whose full-length run keeps the wait."""
    if service_s <= 0 or full_wait_s(goal, most, service_s) <= wait_s:
        return most
    low, high = most / 64, most
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        if full_wait_s(goal, middle, service_s) <= wait_s:
            low = middle
        else:
            high = middle
    return low


def peak_rate(arrival_s: Floats, qps: float, window_s: float, quantile: float) -> float:
    """Arrivals in the busiest seconds, over those of an even flow at `qps`."""
    ends = np.searchsorted(arrival_s, arrival_s + window_s)
    whole = arrival_s + window_s <= arrival_s[-1]
    if not whole.any():
        return 1.0
    rates = (ends - np.arange(len(arrival_s)))[whole] / window_s
    return float(np.quantile(rates, quantile) / qps)


def resampled(values: Floats, quantile: float) -> Bound:
    """A quantile and its bounds: the bootstrap over blocks keeps neighbours together."""
    point = float(np.quantile(values, quantile))
    blocks = np.array_split(values, min(BLOCKS, max(2, len(values) // 8)))
    draw = np.random.default_rng(len(values))
    quantiles = [
        np.quantile(np.concatenate([blocks[i] for i in picks]), quantile)
        for picks in draw.integers(0, len(blocks), (DRAWS, len(blocks)))
    ]
    low, high = np.quantile(quantiles, (SIDE, 1 - SIDE))
    return Bound(min(float(low), point), point, max(float(high), point))


def steady(requests: Requests) -> NDArray[np.bool_]:
    """Which requests met the load of a long run: neither the first ones nor the last."""
    arrivals, length_s = requests.arrival_s, float(requests.arrival_s[-1])
    residence_s = float(np.median(requests.residence_s))
    begin, end = min(2 * residence_s, 0.3 * length_s), length_s - min(residence_s, 0.2 * length_s)
    return (arrivals >= begin) & (arrivals <= end)


def served_qps(requests: Requests) -> Bound | None:
    """Requests per second that enter a batch whose seats are all taken; None where some were left.

    Until then the queue looks too fast: answers still to come are work put off.
    """
    begun_s = np.sort(requests.arrival_s + requests.ttft_ms / 1000)
    ended_s = np.sort(requests.arrival_s + requests.residence_s)
    batch = np.arange(1, len(begun_s) + 1) - np.searchsorted(ended_s, begun_s)
    full = batch >= FULL * batch.max()
    since, until = begun_s[int(full.argmax())], requests.arrival_s[-1]
    under_load = (begun_s >= since) & (begun_s <= until)
    answer_s = np.median(requests.residence_s - requests.ttft_ms / 1000)
    if until - since < answer_s or full[under_load].mean() < MOSTLY:
        return None
    parts = np.histogram(begun_s, BLOCKS, (since, until))[0] * BLOCKS / (until - since)
    spread = DEVIATIONS * float(parts.std()) / math.sqrt(BLOCKS)
    point = float(parts.mean())
    return Bound(point - spread, point, point + spread)


def forecast(
    requests: Requests, qps: float, goal: Goal, overhead_ms: float = 0.0, whole: bool = False
) -> Forecast:
    """What a full-length run at `qps` would measure. `overhead_ms`: what LoadGen's TTFT has
    over the engine's own. `whole`: this was a full-length run, whose TPOT needs no forecast."""
    arrivals, length_s = requests.arrival_s, float(requests.arrival_s[-1])
    base_ms = float(requests.ttft_ms.min()) + overhead_ms
    room_s = max(0.0, goal.ttft_ms - base_ms) / 1000
    rate = served_qps(requests)
    if rate:
        services = [1 / rate.high, 1 / rate.point, 1 / rate.low]
    else:
        seen = resampled(requests.ttft_ms, QUANTILE)
        waits_ms = (value + overhead_ms - base_ms for value in (seen.low, seen.point, seen.high))
        services = [service_for(arrivals, wait / 1000, QUANTILE) for wait in waits_ms]
    waits = [base_ms + 1000 * full_wait_s(goal, qps, service_s) for service_s in services]
    loads = [load_for_wait(goal, service_s, room_s, 2 * qps) for service_s in services]
    full = goal.arrivals_s(qps)
    if whole:
        tpot = resampled(requests.tpot_ms, required_quantile(len(full)))
        return Forecast(Bound(*waits), tpot, Bound(loads[2], loads[1], loads[0]), qps, bool(rate))
    window_s = min(float(np.median(requests.residence_s)), length_s / 4)
    busiest = peak_rate(full, qps, window_s, required_quantile(len(full)))
    tpot_qps = qps * peak_rate(arrivals, qps, window_s, QUANTILE) / busiest
    return Forecast(
        ttft_ms=Bound(*waits),
        tpot_ms=resampled(requests.tpot_ms[steady(requests)], QUANTILE),
        ttft_qps=Bound(loads[2], loads[1], loads[0]),
        tpot_qps=tpot_qps,
        full=bool(rate),
    )
