"""Small SVG charts: scales, axes, a line chart and a chart of percentiles.

Colours come from the page's style sheet (classes), so that light, dark and print each
look right. Every text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .blocks import escape, number

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 62, 18, 14, 36
Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A linear scale from data to pixels, with round ticks."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        return self.start + (value - self.low) / span * (self.end - self.start)


def nice_step(span: float, wanted: int) -> float:
    """The step of 1, 2 or 5 times a power of ten that cuts `span` into about `wanted` parts."""
    raw = span / max(1, wanted)
    if raw <= 0 or not math.isfinite(raw):
        return 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    return next((m * power for m in (1, 2, 5) if m * power >= raw * 0.999), 10 * power)


def axis(low: float, high: float, start: float, end: float, wanted: int = 5) -> Axis:
    """A scale that begins and ends on a tick."""
    if high <= low:
        high = low + 1
    step = nice_step(high - low, wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(n * step, 10) for n in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], start, end, ticks)


def label(value: float) -> str:
    """A tick: as few digits as tell it from its neighbours."""
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and letter == "M"):
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def clock(seconds: float) -> str:
    """A point in time on the axis: 2.5 s, 12:30 or 1.5 h."""
    if seconds < 60:
        return f"{seconds:g} s"
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}" if whole < 3600 else f"{whole / 3600:.3g} h"


def _text(x: float, y: float, text: str, kind: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _frame(y: Axis, unit: str) -> list[str]:
    parts = []
    for tick in y.ticks:
        parts.append(_line(LEFT, y(tick), WIDTH - RIGHT, y(tick), "grid"))
        parts.append(_text(LEFT - 8, y(tick) + 4, label(tick), "tick", "end"))
    parts.append(_text(14, (TOP + HEIGHT - BOTTOM) / 2, unit, "unit"))
    parts[-1] = parts[-1].replace(
        "<text ", f'<text transform="rotate(-90 14 {(TOP + HEIGHT - BOTTOM) / 2:.1f})" '
    )
    return parts


def _wrap(parts: Sequence[str], description: str) -> str:
    label = escape(description)
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" class="chart" aria-label="{label}">'
    return head + "".join(parts) + "</svg>"


def thin(points: Sequence[Point], most: int = 300) -> list[Point]:
    """At most `most` points: of each run of neighbours the lowest and the highest stay, so no dip is lost."""
    if len(points) <= most:
        return list(points)
    size = math.ceil(len(points) / (most // 2))
    kept: list[Point] = []
    for start in range(0, len(points), size):
        part = points[start : start + size]
        pair = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept.extend(sorted(pair))
    return kept


def line_chart(
    points: Sequence[Point], unit: str, description: str, x_label: Callable[[float], str] = clock
) -> str:
    """Values over seconds, from zero, the last value marked. Two points or more."""
    shown = thin(points)
    x = axis(0, max(p[0] for p in points), LEFT, WIDTH - RIGHT, 8)
    # The time axis ends where the data ends: an empty tail would look like a stop.
    x = Axis(0, max(p[0] for p in points) or 1, LEFT, WIDTH - RIGHT, x.ticks)
    y = axis(0, max(p[1] for p in points), HEIGHT - BOTTOM, TOP)
    parts = _frame(y, unit)
    for tick in x.ticks:
        if tick <= x.high:
            parts.append(_text(x(tick), HEIGHT - BOTTOM + 18, x_label(tick), "tick"))
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in shown)
    floor = HEIGHT - BOTTOM
    first, last = x(shown[0][0]), x(shown[-1][0])
    parts.append(f'<polygon class="area" points="{first:.1f},{floor} {path} {last:.1f},{floor}"/>')
    parts.append(f'<polyline class="series" points="{path}"/>')
    end = shown[-1]
    parts.append(
        f'<circle class="dot" cx="{x(end[0]):.1f}" cy="{y(end[1]):.1f}" r="3.5"><title>'
        f"{escape(f'{x_label(end[0])}: {end[1]:g} {unit}')}</title></circle>"
    )
    return _wrap(parts, description)


def percentile_chart(
    values: Sequence[tuple[str, float]], limit: float | None, unit: str, description: str
) -> str:
    """One bar per percentile, each with its value on top; the limit, which binds at p99, as a dashed line."""
    highest = max([v for _, v in values] + ([limit] if limit is not None else []))
    y = axis(0, highest * 1.08, HEIGHT - BOTTOM, TOP)
    parts = _frame(y, unit)
    # Labels come last, over the bars and the line.
    labels = []
    slot = (WIDTH - LEFT - RIGHT) / len(values)
    for n, (name, value) in enumerate(values):
        middle, width = LEFT + slot * (n + 0.5), min(56.0, slot * 0.6)
        over = " over" if limit is not None and value > limit and name == "p99" else ""
        top, tooltip = y(value), escape(f"{name}: {value:g} {unit}")
        parts.append(
            f'<rect class="bar{over}" x="{middle - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
            f'height="{max(0.0, HEIGHT - BOTTOM - top):.1f}" rx="3"><title>{tooltip}</title></rect>'
        )
        labels.append(_text(middle, top - 6, number(value, 0 if value >= 100 else 1), "value"))
        labels.append(_text(middle, HEIGHT - BOTTOM + 18, name, "tick"))
    if limit is not None:
        parts.append(_line(LEFT, y(limit), WIDTH - RIGHT, y(limit), "limit"))
        labels.append(
            _text(LEFT + 4, y(limit) - 5, f"limit of the 99th: {limit:g} {unit}", "limit-word", "start")
        )
    return _wrap([*parts, *labels], description)
