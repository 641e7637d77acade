"""Charts of several curves: two runs over each other, and a tuning's latencies by load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import svg
from .blocks import escape
from .svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Point, axis
from .svg import _frame as frame
from .svg import _line as line
from .svg import _text as text
from .svg import _wrap as wrap

# The legend's line above the plot, and the width of a sign of its text.
LEGEND, SIGN = 22, 6.4


@dataclass(frozen=True)
class Series:
    """One curve. `kind`: its colour's class, one or two."""

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


def plot(
    series: Sequence[Series],
    unit: str,
    description: str,
    x_label: Callable[[float], str] = svg.clock,
    marks: Sequence[Mark] = (),
    limit: Line | None = None,
    answer: Line | None = None,
    from_zero: bool = True,
) -> str:
    """Curves over one x axis from their lowest x (or zero), y from zero. At least one has a point."""
    xs = [p[0] for s in series for p in s.points] + ([answer.at] if answer else [])
    ys = [p[1] for s in series for p in s.points] + [m.y for m in marks] + ([limit.at] if limit else [])
    low = 0.0 if from_zero else min(xs)
    # The axis ends where the data ends, in ticks that are round.
    spread = axis(low, max(xs), LEFT, WIDTH - RIGHT, 8)
    x = Axis(low, max(xs) if max(xs) > low else low + 1, LEFT, WIDTH - RIGHT, spread.ticks)
    y = axis(0, max(ys) or 1, HEIGHT - BOTTOM, TOP + LEGEND)
    parts = frame(y, unit)
    for tick in x.ticks:
        if low <= tick <= x.high:
            parts.append(text(x(tick), HEIGHT - BOTTOM + 18, x_label(tick), "tick"))
    if answer:
        parts += _answer(x(answer.at), answer.text)
    for s in series:
        drawn = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in svg.thin(sorted(s.points)))
        parts.append(f'<polyline class="series {s.kind}" points="{drawn}"/>')
    parts += [_mark(x(m.x), y(m.y), m) for m in marks]
    if limit:
        parts.append(line(LEFT, y(limit.at), WIDTH - RIGHT, y(limit.at), "limit"))
        parts.append(text(LEFT + 4, y(limit.at) - 5, limit.text, "limit-word", "start"))
    return wrap([*parts, *_legend(series)], description)


def _answer(at: float, words: str) -> list[str]:
    """The vertical line of what was found; its words stand on the side that has room."""
    right = at < WIDTH / 2
    return [
        line(at, TOP + LEGEND, at, HEIGHT - BOTTOM, "answer"),
        text(at + (6 if right else -6), HEIGHT - BOTTOM - 8, words, "value", "start" if right else "end"),
    ]


def _mark(x: float, y: float, mark: Mark) -> str:
    title = escape(mark.text)
    return f'<circle class="mark {mark.kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{title}</title></circle>'


def _legend(series: Sequence[Series]) -> list[str]:
    """A dash in each curve's colour, and its name."""
    parts, left = [], float(LEFT)
    for s in series:
        parts.append(line(left, TOP + 6, left + 22, TOP + 6, f"series {s.kind}"))
        parts.append(text(left + 28, TOP + 10, s.name, "legend", "start"))
        left += 28 + SIGN * len(s.name) + 24
    return parts
