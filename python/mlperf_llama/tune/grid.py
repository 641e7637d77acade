"""Engine settings by trial: a few points around the present ones, by short Offline runs.

The engine is loaded once, with ceilings above every point; vLLM's scheduler then takes
each point's limits without a reload.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..engine.preset import Preset

SEATS = (1.0, 0.5, 0.75, 1.5)
TOKENS = (1.0, 0.5, 2.0)
# policy of this project: no more tokens per step (a published run lost its accuracy above).
MOST_TOKENS = 65536
# A point has to be this much faster to replace one that is as good as known.
GAIN = 1.01


@dataclass(frozen=True)
class Point:
    """Sequences in a batch, and prompt tokens per step."""

    seats: int
    tokens: int


def start(preset: Preset) -> Point:
    return Point(preset.max_num_seqs, preset.max_num_batched_tokens)


def ceilings(centre: Point) -> dict[str, int]:
    """What the engine has to be loaded with."""
    return {
        "max_num_seqs": int(max(SEATS) * centre.seats),
        "max_num_batched_tokens": min(MOST_TOKENS, int(max(TOKENS) * centre.tokens)),
    }


def best(measured: Mapping[Point, float], centre: Point) -> Point:
    """The fastest point; the centre unless another is clearly faster."""
    fastest = max(measured, key=lambda p: measured[p])
    return fastest if measured[fastest] > GAIN * measured.get(centre, 0.0) else centre


def next_point(measured: Mapping[Point, float], centre: Point) -> Point | None:
    """The next point to measure: first the seats, then the tokens at the best number of seats."""
    row = [Point(max(1, int(f * centre.seats)), centre.tokens) for f in SEATS]
    for point in row:
        if point not in measured:
            return point
    seats = best({p: measured[p] for p in row}, centre).seats
    for factor in TOKENS:
        point = Point(seats, min(MOST_TOKENS, int(factor * centre.tokens)))
        if point not in measured:
            return point
    return None
