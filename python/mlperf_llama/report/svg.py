"""SVG charts: scales, axes, curves, percentiles and histograms.

Each chart is drawn twice, for a wide page and for a phone, and the style sheet shows one of them. Colours
come from the style sheet (classes), so that light, dark and print look right. Every text is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .blocks import escape

Point = tuple[float, float]
# Points of all curves of a wide chart together; a narrow one has a third of them.
MOST_POINTS = 360
FEWEST_PER_CURVE = 30


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


@dataclass(frozen=True)
class Series:
    """A curve and its name in the legend."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Mark:
    """A dashed line at a limit, with its words; `vertical`: at a value of x."""

    value: float
    words: str
    vertical: bool = False


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


def drawn(draw: Callable[[Canvas], tuple[str, str]], description: str, names: Sequence[str] = ()) -> str:
    """A chart for both widths, and the legend of its curves. `draw` gives attributes and content."""
    charts = []
    for canvas in (WIDE, NARROW):
        attributes, content = draw(canvas)
        size = f'viewBox="0 0 {canvas.width:g} {canvas.height:g}"'
        words = f'role="img" aria-label="{escape(description)}"'
        charts.append(f'<svg {size} class="chart {canvas.kind}" {words} {attributes}>{content}</svg>')
    keys = "".join(f'<span class="key k{n % 8}">{escape(name)}</span>' for n, name in enumerate(names))
    legend = f'<p class="legend">{keys}</p>' if len(names) > 1 else ""
    return f'<div class="plot">{"".join(charts)}{legend}</div>'


def frame(canvas: Canvas, y: Axis, unit: str) -> list[str]:
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


def line_chart(
    points: Sequence[Point], unit: str, description: str, x_label: Callable[[float], str] = clock
) -> str:
    """Values over seconds, from zero, the last value marked. Two points or more."""
    return curves([Series("", points)], unit, description, x_label)


def curves(
    series: Sequence[Series],
    unit: str,
    description: str,
    x_label: Callable[[float], str] = clock,
    marks: Sequence[Mark] = (),
) -> str:
    """Curves from zero in one frame, each of two points or more."""
    across = max(max(p[0] for p in s.points) for s in series)
    across = max([across, *(mark.value for mark in marks if mark.vertical)]) or 1
    high = max(max(p[1] for p in s.points) for s in series)
    high = max([high, *(mark.value for mark in marks if not mark.vertical)])

    def draw(canvas: Canvas) -> tuple[str, str]:
        # The axis ends where the data ends: an empty tail would look like a stop.
        x = Axis(0, across, *canvas.x_range, axis(0, across, *canvas.x_range, canvas.ticks).ticks)
        y = axis(0, high, canvas.floor, canvas.top)
        parts = [*frame(canvas, y, unit), *x_ticks(canvas, x, x_label)]
        most = max(FEWEST_PER_CURVE, canvas.points // len(series))
        for n, one in enumerate(series):
            parts.append(_curve(thin(one.points, most), x, y, n, canvas, alone=len(series) == 1))
        parts += [part for mark in marks for part in _mark(mark, canvas, x, y)]
        suffix = "clock" if x_label is clock else x_label(1.0).removeprefix("1")
        data = f'data-x="{x.data}" data-y="{y.data}"'
        return f'{data} data-unit="{escape(unit)}" data-suffix="{escape(suffix)}"', "".join(parts)

    return drawn(draw, description, [s.name for s in series])


def _curve(points: Sequence[Point], x: Axis, y: Axis, n: int, canvas: Canvas, alone: bool) -> str:
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
    line_of = f'<polyline class="series k{n % 8}" points="{path}"/>'
    if not alone:
        return line_of
    first, end = x(points[0][0]), points[-1]
    area = f"{first:.1f},{canvas.floor:g} {path} {x(end[0]):.1f},{canvas.floor:g}"
    dot = f'<circle class="dot" cx="{x(end[0]):.1f}" cy="{y(end[1]):.1f}" r="3.5"/>'
    return f'<polygon class="area" points="{area}"/>{line_of}{dot}'


def _mark(mark: Mark, canvas: Canvas, x: Axis, y: Axis) -> list[str]:
    if not mark.vertical:
        at = y(mark.value)
        words = text(canvas.left + 4, at - 5, mark.words, "limit-word", "start")
        return [line(canvas.left, at, canvas.width - canvas.right, at, "limit"), words]
    at = x(mark.value)
    # On the side that has more room.
    left = at > (canvas.left + canvas.width) / 2
    words = text(
        at - 5 if left else at + 5, canvas.floor - 8, mark.words, "limit-word", "end" if left else "start"
    )
    return [line(at, canvas.top, at, canvas.floor, "limit"), words]
