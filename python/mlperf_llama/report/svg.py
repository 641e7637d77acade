"""The ground of SVG charts: canvases, scales, axes, text and lines.

Each chart is drawn twice, for a wide page and for a phone, and the style sheet shows one of them. Colours
come from the style sheet (classes), so that light, dark and print look right. Every text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .blocks import escape

Point = tuple[float, float]
# Points of all curves of a wide chart together; a narrow one has a third of them.
MOST_POINTS = 360


@dataclass(frozen=True)
class Canvas:
    """The size of a chart, its margins and about how many ticks its axis of x has."""

    kind: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    ticks: int
    points: int

    @property
    def x_range(self) -> Point:
        return self.left, self.width - self.right

    @property
    def floor(self) -> float:
        return self.height - self.bottom


WIDE = Canvas("wide", 720, 240, 62, 18, 16, 36, 8, MOST_POINTS)
NARROW = Canvas("narrow", 340, 230, 50, 10, 16, 34, 4, MOST_POINTS // 3)


class Scale(Protocol):
    """From data to pixels, linear or not."""

    @property
    def ticks(self) -> Sequence[float]: ...

    def __call__(self, value: float) -> float: ...


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

    @property
    def data(self) -> str:
        """What a page's script needs to read a value off the chart."""
        return f"{self.low:g} {self.high:g} {self.start:g} {self.end:g}"


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


def text(x: float, y: float, words: str, kind: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def drawn(
    draw: Callable[[Canvas], tuple[str, str]], description: str, keys: Sequence[tuple[str, str]] = ()
) -> str:
    """A chart for both widths. `draw` gives attributes and content; `keys`: name and colour's class of each
    curve, for the legend."""
    charts = []
    for canvas in (WIDE, NARROW):
        attributes, content = draw(canvas)
        size = f'viewBox="0 0 {canvas.width:g} {canvas.height:g}"'
        words = f'role="img" aria-label="{escape(description)}"'
        charts.append(f'<svg {size} class="chart {canvas.kind}" {words} {attributes}>{content}</svg>')
    legend = "".join(f'<span class="key {kind}">{escape(name)}</span>' for name, kind in keys)
    legend = f'<p class="legend">{legend}</p>' if legend else ""
    return f'<div class="plot">{"".join(charts)}{legend}</div>'


def frame(canvas: Canvas, y: Scale, unit: str) -> list[str]:
    """Grid, ticks and the unit of y."""
    parts = []
    for tick in y.ticks:
        parts.append(line(canvas.left, y(tick), canvas.width - canvas.right, y(tick), "grid"))
        parts.append(text(canvas.left - 6, y(tick) + 4, label(tick), "tick", "end"))
    middle = (canvas.top + canvas.floor) / 2
    turned = f'<text transform="rotate(-90 12 {middle:.1f})" '
    return [*parts, text(12, middle, unit, "unit").replace("<text ", turned)]


def x_ticks(canvas: Canvas, x: Axis, x_label: Callable[[float], str]) -> list[str]:
    return [
        text(x(tick), canvas.floor + 18, x_label(tick), "tick", _anchor(tick, x))
        for tick in x.ticks
        if x.low <= tick <= x.high
    ]


def _anchor(tick: float, x: Axis) -> str:
    """The last word ends where the axis does: it would be cut off."""
    return "end" if x(tick) > x.end - 12 else "middle"


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
