"""Curves of what the GPUs' readings say over the time of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .events import TimedEvent
from .plot import Series
from .svg import Point

# Fields of a GPU's reading, each with its title and unit.
READINGS = {
    "power_w": ("power", "W"),
    "sm_clock_mhz": ("SM clock", "MHz"),
    "temperature_c": ("temperature", "°C"),
    "memory_used_gib": ("memory in use", "GiB"),
    "utilisation_percent": ("utilisation", "%"),
}
# More curves cannot be told apart, and make the page large.
MOST_GPUS = 8
# Then the time is cut into so many pieces.
PIECES = 120
# In the place of a member's number, where there is one engine.
ALONE = -1


def series(events: Sequence[TimedEvent], field: str) -> list[Series]:
    """One curve for each GPU; of more than MOST_GPUS the lowest, the median and the highest."""
    points: dict[tuple[int, int], list[Point]] = {}
    for timed in events:
        for reading in timed.event.get("gpu", []):
            value, index, member = (reading.get(name) for name in (field, "index", "member"))
            if value is not None:
                key = (ALONE if member is None else int(member), int(index or 0))
                points.setdefault(key, []).append((timed.at_s - events[0].at_s, float(value)))
    if len(points) > MOST_GPUS:
        return _spread(list(points.values()))
    return [Series(_name(*key), points[key], f"k{n}") for n, key in enumerate(sorted(points))]


def _name(member: int, index: int) -> str:
    """Each host counts its GPUs from 0: a member's own number tells them apart."""
    return f"GPU {index}" if member == ALONE else f"member {member}, GPU {index}"


def _spread(every: Sequence[Sequence[Point]]) -> list[Series]:
    """The lowest, the median and the highest of all GPUs in each piece of the time."""
    times, values = (np.array([p[n] for points in every for p in points]) for n in (0, 1))
    end_s = max(float(times.max()), 1e-9)
    places = np.minimum((times / end_s * PIECES).astype(int), PIECES - 1)
    curves: dict[str, list[Point]] = {"lowest": [], "median": [], "highest": []}
    for piece in np.unique(places):
        inside, middle = values[places == piece], (float(piece) + 0.5) * end_s / PIECES
        for name, value in zip(curves, (inside.min(), np.median(inside), inside.max()), strict=True):
            curves[name].append((middle, float(value)))
    named = {f"{name} of {len(every)} GPUs": points for name, points in curves.items()}
    return [Series(name, points, f"k{n}") for n, (name, points) in enumerate(named.items())]
