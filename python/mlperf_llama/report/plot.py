"""Charts of curves: over time, distributions, two runs over each other, a tuning's latencies by load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .blocks import escape
from .svg import Axis, Canvas, Point, axis, clock, drawn, frame, line, text, thin, x_ticks

# However many curves there are, each has so many points.
FEWEST_PER_CURVE = 30


@dataclass(frozen=True)
class Series:
    """One curve. `kind`: its colour's class: one, two, or k0 to k7."""

    name: str
    points: Sequence[Point]
    kind: str = "one"


@dataclass(frozen=True)
class Mark:
    """A point of its own, with a tooltip. `kind`: good, bad or plain."""

    x: float
    y: float
    text: str
    kind: str = "plain"


@dataclass(frozen=True)
class Line:
    """A line across the plot, horizontal at a value of y or vertical at one of x, with its words."""

    at: float
    text: str


def limit_of_99th(limit: float | None, unit: str = "ms") -> Line | None:
    """A p99 latency's limit; None where none applies."""
    return None if limit is None else Line(limit, f"limit of the 99th: {limit:g} {unit}")


@dataclass(frozen=True)
class Scales:
    """The axes of one drawing and its canvas."""

    x: Axis
    y: Axis
    canvas: Canvas


def plot(
    series: Sequence[Series],
    unit: str,
    description: str,
    x_label: Callable[[float], str] = clock,
    marks: Sequence[Mark] = (),
    limit: Line | None = None,
    answer: Line | None = None,
    from_zero: bool = True,
    limit_of_x: Line | None = None,
) -> str:
    """Curves over one x axis from their lowest x (or zero), y from zero. At least one has a point.

    A curve without a name stands alone: what is under it is filled, and its end is marked.
    """
    verticals = [line.at for line in (answer, limit_of_x) if line]
    xs = [p[0] for s in series for p in s.points] + verticals
    ys = [p[1] for s in series for p in s.points] + [m.y for m in marks] + ([limit.at] if limit else [])
    low, high = 0.0 if from_zero else min(xs), max(xs)

    def draw(canvas: Canvas) -> tuple[str, str]:
        # The axis ends where the data ends, in ticks that are round: an empty tail would look like a stop.
        ticks = axis(low, high, *canvas.x_range, canvas.ticks).ticks
        x = Axis(low, high if high > low else low + 1, *canvas.x_range, ticks)
        on = Scales(x, axis(0, max(ys) or 1, canvas.floor, canvas.top), canvas)
        parts = [*frame(canvas, on.y, unit), *x_ticks(canvas, x, x_label)]
        parts += _vertical(on, answer, "answer", "value") if answer else []
        most = max(FEWEST_PER_CURVE, canvas.points // len(series))
        parts += [part for s in series for part in _curve(on, s, most)]
        parts += [_mark(x(m.x), on.y(m.y), m) for m in marks]
        parts += _horizontal(on, limit) if limit else []
        parts += _vertical(on, limit_of_x, "limit", "limit-word") if limit_of_x else []
        data = f'data-x="{x.data}" data-y="{on.y.data}" data-unit="{escape(unit)}"'
        return f'{data} data-form="{escape(_form(x, x_label))}"', "".join(parts)

    return drawn(draw, description, [(s.name, s.kind) for s in series if s.name])


def _form(x: Axis, x_label: Callable[[float], str]) -> str:
    """How the page's script writes a value of x: as a time, a number and its unit, or one of these names."""
    if x_label is clock:
        return "clock"
    if x_label(1.0).startswith("1"):
        return f"unit:{x_label(1.0)[1:]}"
    return "names:" + "|".join(x_label(float(n)) for n in range(int(x.high) + 1))


def _curve(on: Scales, series: Series, most: int) -> list[str]:
    points = [(on.x(a), on.y(b)) for a, b in thin(sorted(series.points), most)]
    if not points:
        return []
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    curve = f'<polyline class="series {series.kind}" points="{path}"/>'
    if series.name:
        return [curve]
    (first, _), (end, height) = points[0], points[-1]
    area = f"{first:.1f},{on.canvas.floor:g} {path} {end:.1f},{on.canvas.floor:g}"
    dot = f'<circle class="dot" cx="{end:.1f}" cy="{height:.1f}" r="3.5"/>'
    return [f'<polygon class="area" points="{area}"/>', curve, dot]


def _horizontal(on: Scales, limit: Line) -> list[str]:
    at, canvas = on.y(limit.at), on.canvas
    words = text(canvas.left + 4, at - 5, limit.text, "limit-word", "start")
    return [line(canvas.left, at, canvas.width - canvas.right, at, "limit"), words]


def _vertical(on: Scales, mark: Line, kind: str, words: str) -> list[str]:
    """A line with its words on the side that has more room."""
    at, canvas = on.x(mark.at), on.canvas
    right = at < (canvas.left + canvas.width) / 2
    return [
        line(at, canvas.top, at, canvas.floor, kind),
        text(at + (6 if right else -6), canvas.floor - 8, mark.text, words, "start" if right else "end"),
    ]


def _mark(x: float, y: float, mark: Mark) -> str:
    title = escape(mark.text)
    return f'<circle class="mark {mark.kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>'
