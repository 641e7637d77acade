"""How a search stands, for whoever watches it: which run comes, what the last one left, the time at most."""

from __future__ import annotations

from collections.abc import Sequence

from ..records.schema import SearchState
from .estimate import CONFIRM
from .forecast import Goal
from .probes import LEAST_QUERIES
from .records import Probe
from .search import MAX_CONFIRMATIONS, MAX_PROBES, MOST_AGAIN, Step

# Beyond these a search stops (search.py).
MOST = {False: MAX_PROBES + MOST_AGAIN, True: MAX_CONFIRMATIONS + 2}


def state(history: Sequence[Probe], step: Step, goal: Goal, probe_s: float) -> SearchState:
    """Before the run that `step` asks for. `probe_s`: the least seconds of a probe."""
    confirms = step.kind == CONFIRM
    tried = {kind: sum((p.kind == CONFIRM) == kind for p in history) for kind in MOST}
    left = {kind: max(0, MOST[kind] - tried[kind]) for kind in MOST}
    seconds = left[False] * max(probe_s, LEAST_QUERIES / step.qps) + left[True] * goal.duration_s
    told = SearchState(
        number=tried[confirms] + 1,
        most=MOST[confirms],
        kind="full-length run" if confirms else "probe",
        qps=float(f"{step.qps:.4g}"),
        left_s=round(seconds, 1),
    )
    best = max((p.qps for p in history if p.kind == CONFIRM and p.valid), default=None)
    if best is not None:
        told["best_qps"] = best
    last = next((p for p in reversed(history) if p.ttft_p99_ms is not None), None)
    if last is not None and last.ttft_p99_ms is not None and last.tpot_p99_ms is not None:
        told["ttft_room_percent"] = round(100 * (1 - last.ttft_p99_ms / goal.ttft_ms), 1)
        told["tpot_room_percent"] = round(100 * (1 - last.tpot_p99_ms / goal.tpot_ms), 1)
    return told
