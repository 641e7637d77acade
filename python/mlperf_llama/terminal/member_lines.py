"""A line for each member of a run, every few seconds: for whoever looks for the slow one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from ..records.schema import Event, MemberCounts
from .stage import quantity
from .style import plain

# Of a GPU, in the order of a line.
UNITS = (("power_w", "W"), ("sm_clock_mhz", "MHz"), ("temperature_c", "°C"))


class MemberLines:
    """A listener for events.Events. A rate is that since the lines before."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._before: dict[int, int] = {}
        self._shown = 0.0

    def __call__(self, event: Event) -> None:
        members = event.get("members")
        if not members:
            return
        now = self._clock()
        lines = [self._line(member, event, now - self._shown) for member in members]
        self._shown = now
        self._before = {member["member"]: member["answered"] for member in members}
        with suppress(OSError, ValueError):
            self._stream.write("".join(f"    {line}\n" for line in lines))
            self._stream.flush()

    def _line(self, member: MemberCounts, event: Event, seconds: float) -> str:
        number, parts = member["member"], [f"{member['under_way']} under way"]
        if number in self._before and seconds > 0:
            rate = (member["answered"] - self._before[number]) / seconds
            parts.insert(0, f"{quantity(rate)} samples/s")
        for gpu in event.get("gpu", []):
            if gpu.get("member") == number:
                parts += [f"{value:.0f} {unit}" for key, unit in UNITS if (value := gpu.get(key)) is not None]
        return f"{plain(member['name'])}: {', '.join(parts)}"
