"""The figures of a LoadGen run that goes on, for a line and for the screen. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .. import rules
from ..records.schema import EventFields, Gpu, SearchState

# A gauge turns yellow at this share of its limit, and red over it.
NEAR = 0.8
GREEN, YELLOW, RED = "green", "yellow", "red"
UNKNOWN = Gpu()


@dataclass(frozen=True)
class Gauge:
    """A latency so far, in ms; `limit` None where none applies."""

    name: str
    p50_ms: float | None
    p99_ms: float
    limit_ms: float | None

    @property
    def share(self) -> float | None:
        """Of the limit."""
        return None if self.limit_ms is None else self.p99_ms / self.limit_ms

    @property
    def tone(self) -> str:
        share = self.share or 0.0
        return RED if share > 1 else YELLOW if share >= NEAR else GREEN

    @property
    def times(self) -> str:
        p50 = "" if self.p50_ms is None else f"p50 {milliseconds(self.p50_ms)}  "
        return f"{p50}p99 {milliseconds(self.p99_ms)} ms"

    @property
    def limit(self) -> str:
        """How near the limit is, in words; empty without one."""
        if self.share is None:
            return ""
        over = " OVER" if self.tone == RED else ""
        return f"{100 * self.share:.0f}% of {milliseconds(self.limit_ms or 0.0)} ms{over}"

    @property
    def text(self) -> str:
        return f"{self.name} {self.times}" + (f" ({self.limit})" if self.limit else "")


def gauges(stage: str, fields: EventFields) -> list[Gauge]:
    """TTFT and TPOT, as far as they are known. The limits count in runs that measure performance."""
    scenario, _, kind = stage.partition(" ")
    limits = None if kind in ("accuracy", "compliance") else rules.TOKEN_LATENCY_LIMITS_MS.get(scenario)
    ttft, tpot = limits or (None, None)
    known = (
        ("TTFT", fields.get("ttft_p50_ms"), fields.get("ttft_p99_ms"), ttft),
        ("TPOT", fields.get("tpot_p50_ms"), fields.get("tpot_p99_ms"), tpot),
    )
    return [Gauge(name, p50, p99, limit) for name, p50, p99, limit in known if p99 is not None]


def requests(fields: EventFields) -> str:
    """How many requests wait and run."""
    counts = ((fields.get("waiting"), "waiting"), (fields.get("running"), "running"))
    return "  ".join(f"{count:,} {word}" for count, word in counts if count is not None)


def place(fields: EventFields) -> str:
    run, runs = fields.get("run"), fields.get("runs")
    return f"run {run} of {runs}" if run and runs else ""


def gpu(reading: Mapping[str, float | None], card: Gpu = UNKNOWN, degrees: str = "C") -> str:
    """One GPU's watts, clock, temperature, memory, each beside what the card has at most."""
    parts = (
        _of(reading.get("power_w"), card.power_limit_w, "W"),
        _of(reading.get("sm_clock_mhz"), card.max_sm_clock_mhz, "MHz"),
        _of(reading.get("temperature_c"), None, degrees),
        _of(reading.get("memory_used_gib"), card.memory_gib, "GiB", 1),
        _of(reading.get("utilisation_percent"), None, "% busy", join=""),
    )
    return "  ".join(filter(None, parts))


def _of(value: float | None, most: float | None, unit: str, digits: int = 0, join: str = " ") -> str:
    if value is None:
        return ""
    limit = f" of {most:,.{digits}f}" if most else ""
    return f"{value:,.{digits}f}{limit}{join}{unit}"


def all_gpus(readings: Sequence[Mapping[str, float | None]]) -> str:
    """Many GPUs in a line: sum of watts, the lowest clock, the highest temperature."""
    watts, clocks, degrees = (
        [value for reading in readings if (value := reading.get(key)) is not None]
        for key in ("power_w", "sm_clock_mhz", "temperature_c")
    )
    parts = [
        f"{sum(watts):,.0f} W" if watts else "",
        f"{min(clocks):,.0f} MHz" if clocks else "",
        f"{max(degrees):.0f} C" if degrees else "",
    ]
    name = "GPU" if len(readings) == 1 else f"{len(readings)} GPUs"
    return f"{name} {' '.join(filter(None, parts))}" if any(parts) else ""


def search(state: SearchState) -> list[str]:
    """How a search for the highest load stands: the run, the best load, the time."""
    number, most, left_s = state.get("number"), state.get("most"), state.get("left_s")
    qps, best = state.get("qps"), state.get("best_qps")
    if number is None:
        return []
    parts = [f"{state.get('kind', 'run')} {number}" + (f" of at most {most}" if most else "")]
    parts += [f"at {qps:g}/s"] if qps else []
    parts.append(f"best so far {best:g}/s" if best else "none confirmed yet")
    parts += [f"{minutes(left_s)} left at most"] if left_s is not None else []
    return parts


def margins(state: SearchState) -> str:
    """The room that the run before left to its limits; empty before the first."""
    pairs = (("TTFT", state.get("ttft_room_percent")), ("TPOT", state.get("tpot_room_percent")))
    rooms = [
        f"{name} {abs(room):.0f}% {'room' if room >= 0 else 'over'}"
        for name, room in pairs
        if room is not None
    ]
    return f"the run before: {', '.join(rooms)}" if rooms else ""


def minutes(seconds: float) -> str:
    """About: 40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def milliseconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
