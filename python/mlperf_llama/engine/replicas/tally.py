"""What the members' sides of the head add up to."""

from __future__ import annotations

from collections.abc import Iterable

from ...records.schema import GpuReading, MemberCounts
from .member import Member


def summed(members: Iterable[Member]) -> dict[str, float]:
    """Their engines' counters, as they were last asked for."""
    total: dict[str, float] = {}
    for member in members:
        for name, value in member.counters.items():
            total[name] = total.get(name, 0.0) + value
    return total


def gpu_readings(members: Iterable[Member]) -> list[GpuReading]:
    return [reading for member in members for reading in member.readings]


def counts(members: Iterable[Member]) -> list[MemberCounts]:
    return [
        MemberCounts(
            member=member.index, name=member.name, answered=member.answered, under_way=len(member.requests)
        )
        for member in members
    ]
