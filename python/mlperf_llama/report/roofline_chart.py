"""The roofline as a picture: samples/s over operations per byte, on logarithmic scales, with the run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..machine.gpu_table import GpuSpec
from ..machine.roofline import PRECISIONS, Prediction
from .blocks import Chart, escape, number
from .svg import Canvas, drawn, frame, label, line, text

# The picture reaches so far to either side of the benchmark's own intensity.
DECADES = 1.0


@dataclass(frozen=True)
class Scale:
    """A logarithmic scale from data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """1, 2 and 5 times the powers of ten inside."""
        first = math.floor(math.log10(self.low))
        every = [m * 10.0**n for n in range(first, first + 8) for m in (1, 2, 5)]
        return [tick for tick in every if self.low <= tick <= self.high]


def chart(gpu: GpuSpec, limit: Prediction, rate: float) -> Chart:
    """`rate`: this run's samples/s of one GPU."""
    floating = limit.compute_s * gpu.rates[PRECISIONS[limit.precision].compute] * 1e12
    moved = limit.memory_s * gpu.bandwidth * 1e9
    intensity, share = floating / moved, 100 * limit.share(rate)
    compute, memory = 1 / limit.compute_s, 1 / limit.memory_s
    title = f"Roofline of one {gpu.name}, Offline at {limit.precision}"
    description = (
        f"{title}: {number(intensity, 0)} operations per byte; compute allows {number(compute, 1)} "
        f"samples/s, memory bandwidth {number(memory, 1)}, both without overlap {number(limit.serial, 1)}; "
        f"this run reached {number(rate, 1)}, {share:.0f}% of the limit."
    )

    def draw(canvas: Canvas) -> tuple[str, str]:
        x = Scale(intensity / 10**DECADES, intensity * 10**DECADES, *canvas.x_range)
        y = Scale(min(rate, memory / 10**DECADES) / 1.5, max(compute, memory) * 2, canvas.floor, canvas.top)
        # Where the slope of the memory meets the ceiling of compute.
        ridge = min(x.high, max(x.low, intensity * compute / memory))
        roof = [(x.low, memory * x.low / intensity), (ridge, memory * ridge / intensity), (x.high, compute)]
        middle = math.sqrt(x.low * ridge)
        path = " ".join(f"{x(a):.1f},{y(min(b, compute)):.1f}" for a, b in roof)
        at = x(intensity)
        words = escape(f"this run: {rate:g} samples/s")
        beside = f"memory bandwidth ({number(memory, 1)} here)"
        parts = [
            *_frame(canvas, x, y),
            f'<polyline class="series" points="{path}"/>',
            line(at, y(rate), at, y(limit.limit), "aside"),
            line(at - 12, y(limit.serial), at + 12, y(limit.serial), "aside"),
            text(at + 16, y(limit.serial) + 4, f"without overlap {number(limit.serial, 1)}", "tick", "start"),
            f'<circle class="dot" cx="{at:.1f}" cy="{y(rate):.1f}" r="6"><title>{words}</title></circle>',
            text(at + 12, y(rate) + 4, f"this run {number(rate, 1)}, {share:.0f}%", "point-word", "start"),
            text(x.end - 2, y(compute) - 7, f"compute {number(compute, 1)}", "tick", "end"),
            text(x(middle) + 8, y(memory * middle / intensity) + 14, beside, "tick", "start"),
        ]
        return "", "".join(parts)

    return Chart(title, drawn(draw, description), description)


def _frame(canvas: Canvas, x: Scale, y: Scale) -> list[str]:
    parts = frame(canvas, y, "samples/s")
    wide = canvas.kind == "wide"
    for tick in x.ticks if wide else x.ticks[::2]:
        parts.append(text(x(tick), canvas.floor + 16, label(tick), "tick"))
    ends = canvas.width - canvas.right
    return [*parts, text(ends, canvas.floor + 31, "operations per byte", "unit", "end")]
