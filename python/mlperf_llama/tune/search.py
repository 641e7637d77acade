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

from .estimate import CONFIRM, PROBE, Seen, estimate, holds, ratio, ttft_load, with_forecast
from .forecast import Goal
from .steadiness import steadiness

MAX_PROBES, MAX_CONFIRMATIONS, MAX_CRASHES = 8, 4, 4
# So many probes more, where the machine has changed on the way.
MOST_AGAIN = 6
MIN_PROBES = 3
# A probe this close to the estimate settles it.
NEAR = 0.015
# Two probes this close say the same.
SAME = 0.005
# The first confirmation stands this much below the estimate; after an INVALID the next one so
# much below the last, after another twice as much.
MARGIN, STEP = 0.012, 0.006
# A confirmation that holds and leaves so much room is followed by a higher one.
ROOM, LARGE_ROOM = 0.013, 1.08
# Latencies under this share of their limits say nothing of the load that would reach them.
FAR_UNDER = 0.25
# A full-length run refused this far above the estimate tells no more than a probe.
FAR_REFUSED = 1.05
# A run over a limit within this factor above the estimate bounds it; without one, up by RISE.
OVER, RISE = 1.05, 1.04
# Where latencies rise by less than the load, so much: only full-length runs tell, a step up each.
FLAT, CLIMB = 0.03, 1.025
# A load changes at most by this factor from the nearest one tried.
LEAP = 1.6
# Where a crash shows that a load is too much.
AFTER_CRASHES = 0.85


@dataclass(frozen=True)
class Step:
    """What to do next: probe or confirm at `qps`, or stop with `answer` (None: none was found)."""

    kind: str
    qps: float = 0.0
    answer: float | None = None
    reason: str = ""


STOP = "stop"
UNSTEADY = "this machine is unsteady, its runs contradict each other"


def _leap(seen: Sequence[Seen], goal: Goal) -> float:
    """Far under both limits no latency tells where they are: straight up, as far as allowed."""
    top = max((s for s in seen if not s.crashed), key=lambda s: s.qps)
    return LEAP * top.qps if holds(top, goal) and ratio(top, goal) < FAR_UNDER else 0.0


def _bounded(seen: Sequence[Seen], goal: Goal, load: float) -> bool:
    """Whether something shows that not much more than `load` can hold.

    The time per token may stay flat just under its limit: then only a run over the limit,
    or the queue's end, tells where the load must stop.
    """
    rows = with_forecast(seen)
    if ttft_load(rows) <= (1 + ROOM) * load:
        return True
    return any(f.tpot_ms.point > goal.tpot_ms and f.tpot_qps <= OVER * load for _, f in rows)


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
    best = answer = max((s.qps for s in history if s.kind == CONFIRM and s.valid), default=None)
    crashes = _crashes_in_a_row(history)
    if crashes >= MAX_CRASHES:
        return Step(STOP, answer=answer, reason=f"{crashes} runs in a row crashed")
    if crashes == 1:
        return Step(history[-1].kind, history[-1].qps, reason="the run before crashed: once more")
    steady = steadiness(history, goal)
    seen = steady.runs
    if crashes:
        return Step(PROBE, AFTER_CRASHES * history[-1].qps, reason="crashed again: a lower load")
    answer = max((s.qps for s in seen if s.kind == CONFIRM and s.valid), default=None)
    if best is not None and (steady.unsteady or best != answer):
        # What a full-length run has confirmed stays, however the machine was later.
        return Step(STOP, answer=best, reason=f"{UNSTEADY}: the best confirmed load is kept")
    if steady.doubtful:
        return Step(
            steady.doubtful.kind, steady.doubtful.qps, reason="contradicts the runs before: once more"
        )
    probes = [s for s in seen if s.kind == PROBE]
    confirmations = [s for s in seen if s.kind == CONFIRM]
    load = estimate(seen, goal)
    if load is None:
        return Step(PROBE, first_qps, reason="the first guess")
    load = min(max(load, _leap(seen, goal)), _crash_ceiling(history))
    confirmed = sum(s.kind == CONFIRM for s in history)
    if len(confirmations) >= MAX_CONFIRMATIONS or confirmed >= MAX_CONFIRMATIONS + 2:
        why = f"{UNSTEADY}: " if steady.unsteady else ""
        reason = "" if answer else f"{why}none of {confirmed} full-length runs was VALID"
        return Step(STOP, answer=answer, reason=reason)
    if answer is not None or any(c.qps <= FAR_REFUSED * load for c in confirmations):
        return _after_confirmation(confirmations, probes, load, answer, goal)
    tried = sum(s.kind == PROBE for s in history)
    spent = len(probes) >= MAX_PROBES or tried >= MAX_PROBES + MOST_AGAIN or steady.unsteady
    close = any(abs(math.log(s.qps / load)) <= NEAR for s in probes)
    if spent or (close and len(probes) >= MIN_PROBES and _bounded(seen, goal, load)):
        return Step(CONFIRM, (1 - MARGIN) * load, reason="a probe stood close to the estimate")
    if close and len(probes) >= MIN_PROBES:
        under = [p.qps for p in probes if not p.crashed and ratio(p, goal) <= 1]
        load = RISE * max([load, *under])
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
        known = any(abs(math.log(p.qps / higher)) <= NEAR for p in probes)
        if higher > LARGE_ROOM * answer and not known and len(probes) < MAX_PROBES:
            return Step(PROBE, higher, reason="the confirmed load leaves much room: a probe first")
        if higher > (1 + ROOM) * answer:
            return Step(CONFIRM, higher, reason="the confirmed load leaves room")
        if _flat(probes, answer, goal) and CLIMB * answer < (1 - STEP) * refused:
            return Step(CONFIRM, CLIMB * answer, reason="latencies hardly rise above the confirmed load")
        return Step(STOP, answer=answer)
    below = (1 - STEP * sum(not c.valid for c in confirmations)) * refused
    return Step(CONFIRM, min((1 - MARGIN) * load, below), reason="INVALID: a little lower")


def _flat(probes: Sequence[Seen], answer: float, goal: Goal) -> bool:
    """Whether a probe well above the answer was hardly over a limit: then no slope tells."""
    above = [p for p in probes if not p.crashed and p.qps >= (1 + FLAT / 2) * answer]
    return any(ratio(p, goal) <= 1 + FLAT for p in above)


def _crashes_in_a_row(history: Sequence[Seen]) -> int:
    count = 0
    for seen in reversed(history):
        if not seen.crashed:
            break
        count += 1
    return count
