"""Which load to try next: a pure function of what was seen so far, so a search can go on anywhere.

Every probe gives two loads: the one whose queue would just hold the TTFT limit over a
full-length run (forecast.py), and, from all probes together, the one at which the time per
token crosses its limit. The lower of the two is tried next, between the loads that surely
hold and those that surely do not, until a probe has stood close to it; full-length runs then
confirm it, a little lower after each INVALID.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .forecast import Forecast, Goal

PROBE, CONFIRM = "probe", "confirm"
MAX_PROBES, MAX_CONFIRMATIONS, MAX_CRASHES = 8, 4, 4
MIN_PROBES = 3
# A probe this close to the estimate settles it.
NEAR = 0.015
# Two probes this close say the same.
SAME = 0.005
# The first confirmation stands this much below the estimate; each later one below the last.
MARGIN, STEP = 0.012, 0.006
# A confirmation that holds and leaves so much room is followed by a higher one.
ROOM, LARGE_ROOM = 0.015, 1.08
# Latencies under this share of their limits say nothing of the load that would reach them.
FAR_UNDER = 0.25
# Two runs contradict each other when one fails by so much, or so far on the wrong side.
FAR_OVER, FAR_APART = 1.3, 0.08
# A run over a limit within this factor above the estimate bounds it; without one, up by RISE.
OVER, RISE = 1.05, 1.04
# Where latencies rise by less than the load, so much: only full-length runs tell, a step up each.
FLAT, CLIMB = 0.03, 1.025
# A load changes at most by this factor from the nearest one tried.
LEAP = 1.6
# Where a crash shows that a load is too much.
AFTER_CRASHES = 0.85
# How the inverse of the time per token falls with the load, before two probes tell.
SLOPE, SLOPE_SPREAD = 2.0, 2.0


@dataclass(frozen=True)
class Seen:
    """One finished probe or confirmation. `forecast` None: it crashed. `valid`: LoadGen's word."""

    kind: str
    qps: float
    forecast: Forecast | None
    valid: bool = False

    @property
    def crashed(self) -> bool:
        return self.forecast is None


@dataclass(frozen=True)
class Step:
    """What to do next: probe or confirm at `qps`, or stop with `answer` (None: none was found)."""

    kind: str
    qps: float = 0.0
    answer: float | None = None
    reason: str = ""


STOP = "stop"


def holds(seen: Seen, goal: Goal) -> bool | None:
    """True or False where the bounds leave no doubt, else None. A confirmation leaves none."""
    f = seen.forecast
    if f is None:
        return None
    if seen.kind == CONFIRM:
        return seen.valid
    # What the full-length run's busier seconds would add.
    busier = (seen.qps / f.tpot_qps) ** SLOPE
    if f.ttft_ms.high <= goal.ttft_ms and f.tpot_ms.high * busier <= goal.tpot_ms:
        return True
    if f.ttft_ms.low > goal.ttft_ms or f.tpot_ms.low > goal.tpot_ms:
        return False
    return None


def _contradicts(new: Seen, old: Seen, goal: Goal) -> bool:
    """Whether the machine must have changed between two runs."""
    before, now = holds(old, goal), holds(new, goal)
    if before is None or now is None or before == now or new.forecast is None:
        return False
    good, bad = (new, old) if now else (old, new)
    speed = new.forecast.ttft_qps
    if bad is new and _ratio(new, goal) > FAR_OVER and speed.high < 0.9 * old.qps:
        return True
    apart = math.log(good.qps / bad.qps)
    return apart >= FAR_APART or (apart >= 0 and _ratio(bad, goal) > FAR_OVER)


def _ratio(seen: Seen, goal: Goal) -> float:
    assert seen.forecast
    return max(seen.forecast.ttft_ms.point / goal.ttft_ms, seen.forecast.tpot_ms.point / goal.tpot_ms)


def current(history: Sequence[Seen], goal: Goal) -> list[Seen]:
    """What was seen of the machine as it is now: a contradiction forgets all before it."""
    kept: list[Seen] = []
    for new in history:
        if any(_contradicts(new, old, goal) for old in kept):
            kept = []
        kept.append(new)
    return kept


def estimate(seen: Sequence[Seen], goal: Goal) -> float | None:
    """The highest load that holds both limits, as far as `seen` tells."""
    told = _told(seen)
    return min(_ttft_load(told), _tpot_load(told, goal)) if told else None


def _told(seen: Sequence[Seen]) -> list[tuple[Seen, Forecast]]:
    return [(s, s.forecast) for s in seen if s.forecast is not None]


def _ttft_load(told: Sequence[tuple[Seen, Forecast]]) -> float:
    """The mean of the queues' own limits; those probed near their limit count most."""
    total = weight = 0.0
    for s, f in told:
        distance = math.log(s.qps / f.ttft_qps.point)
        spread = math.log(f.ttft_qps.high / f.ttft_qps.low) / 2
        w = (5.0 if s.kind == CONFIRM else 1.0) / (distance**2 + spread**2 + 0.02**2)
        total, weight = total + w * math.log(f.ttft_qps.point), weight + w
    return math.exp(total / weight)


def _tpot_load(told: Sequence[tuple[Seen, Forecast]], goal: Goal) -> float:
    """Where a straight line through 1 / TPOT against load crosses the limit.

    A batch that slows down by what it holds takes a / (1 - load / capacity) a step, so the
    inverse falls in a line. Runs near the limit count most; the slope starts from a guess
    that they soon outweigh.
    """
    rows = []
    for s, f in told:
        speed = goal.tpot_ms / max(f.tpot_ms.point, 1e-9)
        spread = (f.tpot_ms.high - f.tpot_ms.low) / 2 / max(f.tpot_ms.point, 1e-9) * speed
        rows.append((s.kind, f.tpot_qps, speed, 1 / ((speed - 1) ** 2 + spread**2 + 0.03**2)))
    # Probes give the slope; full-length runs, once there are any, the height.
    level = [row for row in rows if row[0] == CONFIRM] or rows
    weight = sum(w for *_, w in level)
    x0 = sum(w * x for _, x, _, w in level) / weight
    y0 = sum(w * y for _, _, y, w in level) / weight
    prior = 1 / SLOPE_SPREAD**2
    across = sum(w * (x / x0 - 1) ** 2 for _, x, _, w in rows)
    rise = sum(w * (x / x0 - 1) * (y - y0) for _, x, y, w in rows)
    slope = (rise - prior * SLOPE * y0) / (across + prior)
    return max(x0 * (1 + (1 - y0) / min(slope, -0.5 * y0)), x0 / 4)


def _leap(seen: Sequence[Seen], goal: Goal) -> float:
    """Far under both limits no latency tells where they are: straight up, as far as allowed."""
    top = max((s for s in seen if not s.crashed), key=lambda s: s.qps)
    return LEAP * top.qps if holds(top, goal) and _ratio(top, goal) < FAR_UNDER else 0.0


def _bounded(seen: Sequence[Seen], goal: Goal, load: float) -> bool:
    """Whether something shows that not much more than `load` can hold.

    The time per token may stay flat just under its limit: then only a run over the limit,
    or the queue's end, tells where the load must stop.
    """
    told = _told(seen)
    if _ttft_load(told) <= (1 + ROOM) * load:
        return True
    return any(f.tpot_ms.point > goal.tpot_ms and f.tpot_qps <= OVER * load for _, f in told)


def _crash_ceiling(history: Sequence[Seen]) -> float:
    """Below the lowest load that crashed twice in a row."""
    crashed = [b.qps for a, b in pairwise(history) if a.crashed and b.crashed]
    return math.sqrt(AFTER_CRASHES) * min(crashed, default=math.inf)


def _between(load: float, seen: Sequence[Seen], goal: Goal) -> float:
    """`load`, kept off the loads that are settled and within a leap of those tried."""
    nearest = min((s.qps for s in seen), key=lambda q: abs(math.log(load / q)))
    load = min(max(load, nearest / LEAP), nearest * LEAP)
    low = max((s.qps for s in seen if holds(s, goal) is True), default=0.0)
    high = min((s.qps for s in seen if holds(s, goal) is False), default=math.inf)
    if low < high:
        if load >= high:
            load = math.sqrt(max(low, high * 0.9) * high)
        if load <= low:
            load = math.sqrt(low * min(high, low * 1.1))
    return load


def next_step(history: Sequence[Seen], goal: Goal, first_qps: float) -> Step:
    """The next probe or confirmation, or the answer."""
    answer = max((s.qps for s in history if s.kind == CONFIRM and s.valid), default=None)
    crashes = _crashes_in_a_row(history)
    if crashes >= MAX_CRASHES:
        return Step(STOP, answer=answer, reason=f"{crashes} runs in a row crashed")
    if crashes == 1:
        return Step(history[-1].kind, history[-1].qps, reason="the run before crashed: once more")
    seen = current(history, goal)
    if crashes:
        return Step(PROBE, AFTER_CRASHES * history[-1].qps, reason="crashed again: a lower load")
    answer = max((s.qps for s in seen if s.kind == CONFIRM and s.valid), default=None)
    probes = [s for s in seen if s.kind == PROBE]
    confirmations = [s for s in seen if s.kind == CONFIRM]
    load = estimate(seen, goal)
    if load is None:
        return Step(PROBE, first_qps, reason="a first guess from the Offline speed")
    load = min(max(load, _leap(seen, goal)), _crash_ceiling(history))
    if sum(s.kind == CONFIRM for s in history) >= MAX_CONFIRMATIONS:
        reason = "" if answer else f"none of {MAX_CONFIRMATIONS} full-length runs was VALID"
        return Step(STOP, answer=answer, reason=reason)
    if confirmations:
        return _after_confirmation(confirmations, probes, load, answer, goal)
    tried = sum(s.kind == PROBE for s in history)
    spent = len(probes) >= MAX_PROBES or tried >= 2 * MAX_PROBES
    close = any(abs(math.log(s.qps / load)) <= NEAR for s in probes)
    if spent or (close and len(probes) >= MIN_PROBES and _bounded(seen, goal, load)):
        return Step(CONFIRM, (1 - MARGIN) * load, reason="a probe stood close to the estimate")
    if close and len(probes) >= MIN_PROBES:
        load = RISE * max(load, *(s.qps for s in probes))
        return Step(PROBE, load, reason="nothing has gone over a limit yet: higher")
    between = _between(load, seen, goal)
    if any(abs(math.log(s.qps / between)) <= SAME for s in probes) and len(probes) >= MIN_PROBES:
        return Step(CONFIRM, (1 - MARGIN) * load, reason="the probes cannot tell more")
    return Step(PROBE, between, reason=f"the estimate is {load:.4g}")


def _after_confirmation(
    confirmations: Sequence[Seen], probes: Sequence[Seen], load: float, answer: float | None, goal: Goal
) -> Step:
    """Up where there is room, down after an INVALID, else done."""
    refused = min((s.qps for s in confirmations if not s.valid), default=math.inf)
    if answer is not None:
        higher = min((1 - MARGIN) * load, (1 - STEP) * refused)
        if higher > LARGE_ROOM * answer and len(probes) < MAX_PROBES:
            return Step(PROBE, higher, reason="the confirmed load leaves much room: a probe first")
        if higher > (1 + ROOM) * answer:
            return Step(CONFIRM, higher, reason="the confirmed load leaves room")
        if _flat(probes, answer, goal) and CLIMB * answer < (1 - STEP) * refused:
            return Step(CONFIRM, CLIMB * answer, reason="latencies hardly rise above the confirmed load")
        return Step(STOP, answer=answer)
    if load < 0.95 * refused and len(probes) < MAX_PROBES and not _probed_below(probes, refused):
        return Step(PROBE, load, reason="far from valid: a probe first")
    return Step(CONFIRM, min((1 - MARGIN) * load, (1 - STEP) * refused), reason="INVALID: a little lower")


def _flat(probes: Sequence[Seen], answer: float, goal: Goal) -> bool:
    """Whether a probe well above the answer was hardly over a limit: then no slope tells."""
    above = [p for p in probes if not p.crashed and p.qps >= (1 + FLAT / 2) * answer]
    return any(_ratio(p, goal) <= 1 + FLAT for p in above)


def _probed_below(probes: Sequence[Seen], qps: float) -> bool:
    return any(p.qps < 0.95 * qps for p in probes[-1:])


def _crashes_in_a_row(history: Sequence[Seen]) -> int:
    count = 0
    for seen in reversed(history):
        if not seen.crashed:
            break
        count += 1
    return count
