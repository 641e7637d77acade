"""SVG charts of bars: percentiles beside their limit, and histograms."""

from __future__ import annotations

from collections.abc import Sequence

from .blocks import escape, number
from .svg import Canvas, axis, drawn, frame, line, text, x_ticks


def percentile_chart(
    values: Sequence[tuple[str, float]], limit: float | None, unit: str, description: str
) -> str:
    """One bar per percentile, each with its value on top; the limit, which binds at p99, as a dashed line."""
    highest = max([v for _, v in values] + ([limit] if limit is not None else []))

    def draw(canvas: Canvas) -> tuple[str, str]:
        y = axis(0, highest * 1.08, canvas.floor, canvas.top)
        parts = frame(canvas, y, unit)
        # Labels come last, over the bars and the line.
        labels = []
        slot = (canvas.width - canvas.left - canvas.right) / len(values)
        for n, (name, value) in enumerate(values):
            middle, width = canvas.left + slot * (n + 0.5), min(56.0, slot * 0.6)
            over = " over" if limit is not None and value > limit and name == "p99" else ""
            parts.append(_bar(middle - width / 2, width, y(value), canvas, f"{name}: {value:g} {unit}", over))
            labels.append(text(middle, y(value) - 6, number(value, 0 if value >= 100 else 1), "value"))
            labels.append(text(middle, canvas.floor + 18, name, "tick"))
        if limit is not None:
            parts.append(line(canvas.left, y(limit), canvas.width - canvas.right, y(limit), "limit"))
            words = f"limit of the 99th: {limit:g} {unit}"
            labels.append(text(canvas.left + 4, y(limit) - 5, words, "limit-word", "start"))
        return "", "".join([*parts, *labels])

    return drawn(draw, description)


def histogram(counts: Sequence[int], edges: Sequence[float], unit: str, description: str) -> str:
    """Requests per bin; `edges` has one more than `counts`."""

    def draw(canvas: Canvas) -> tuple[str, str]:
        y = axis(0, max(counts), canvas.floor, canvas.top)
        x = axis(edges[0], edges[-1], *canvas.x_range, canvas.ticks)
        parts = frame(canvas, y, "requests")
        for count, low, high in zip(counts, edges, edges[1:], strict=False):
            words = f"{low:g} to {high:g} {unit}: {count}"
            parts.append(_bar(x(low) + 0.5, max(1.0, x(high) - x(low) - 1), y(count), canvas, words))
        return "", "".join([*parts, *x_ticks(canvas, x, lambda value: f"{value:g}")])

    return drawn(draw, description)


def _bar(left: float, width: float, top: float, canvas: Canvas, words: str, over: str = "") -> str:
    return (
        f'<rect class="bar{over}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{max(0.0, canvas.floor - top):.1f}" rx="2"><title>{escape(words)}</title></rect>'
    )
