"""Whether the runs of a search contradict each other: by chance, or because the machine has changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .estimate import Seen, holds, ratio
from .forecast import Goal

# Two runs contradict each other when one fails by so much, or so far on the wrong side.
FAR_OVER, FAR_APART = 1.3, 0.08
# Two runs at one load whose speeds differ by more were made by a machine that is not steady.
FASTER = 1.3
# More runs that contradicted the others than this, and the machine is too unsteady to search on.
MOST_DOUBTS = 2


def contradicts(new: Seen, old: Seen, goal: Goal) -> bool:
    """Whether the machine must have changed between two runs."""
    before, now = holds(old, goal), holds(new, goal)
    if before is None or now is None or before == now or new.forecast is None:
        return False
    good, bad = (new, old) if now else (old, new)
    speed = new.forecast.ttft_qps
    if bad is new and ratio(new, goal) > FAR_OVER and speed.high < 0.9 * old.qps:
        return True
    apart = math.log(good.qps / bad.qps)
    return apart >= FAR_APART or (apart >= 0 and ratio(bad, goal) > FAR_OVER)


def _faster(new: Seen, old: Seen) -> bool:
    """Whether the machine was much faster in one run than in another at the same load."""
    assert new.forecast and old.forecast
    speeds = new.forecast.ttft_qps.point / old.forecast.ttft_qps.point
    return max(speeds, old.forecast.tpot_ms.point / new.forecast.tpot_ms.point) > FASTER


@dataclass(frozen=True)
class Steadiness:
    """What the runs say of the machine as it is now.

    `runs`: those that count. `doubtful`: the last run, where it contradicts the others and no second one has
    told which are right. `strays`: runs that contradicted the others and, repeated, did not. `changes`: those
    that did again, so that all before them was forgotten.
    """

    runs: Sequence[Seen]
    doubtful: Seen | None
    strays: int
    changes: int

    @property
    def unsteady(self) -> bool:
        return self.strays + self.changes > MOST_DOUBTS


def steadiness(history: Sequence[Seen], goal: Goal) -> Steadiness:
    """A run that contradicts the others is repeated: it was chance, or the machine has changed. So is a first
    one far over a limit, since its load follows from what the machine did just before."""
    kept: list[Seen] = []
    doubtful: Seen | None = None
    strays = changes = 0
    for new in history:
        if not kept and not new.crashed:
            if doubtful is None and ratio(new, goal) > FAR_OVER:
                doubtful = new
                continue
            if doubtful is not None and _faster(new, doubtful):
                doubtful, strays = None, 1
            kept = [new] if doubtful is None else [doubtful, new]
            doubtful = None
            continue
        against = any(contradicts(new, old, goal) for old in kept)
        if doubtful is None:
            doubtful = new if against else None
            kept += [] if against else [new]
        elif new.crashed:
            kept.append(new)
        else:
            kept = [doubtful, new] if against else [*kept, new]
            strays, changes = (strays, changes + 1) if against else (strays + 1, changes)
            doubtful = None
    return Steadiness(kept, doubtful, strays, changes)
