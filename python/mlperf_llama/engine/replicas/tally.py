"""What the members' sides of the head add up to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...records.codec import from_json
from ...records.schema import Energy, GpuReading, MemberCounts
from .member import Member


def summed(members: Iterable[Member]) -> dict[str, float]:
    """Their engines' counters, as they were last asked for."""
    total: dict[str, float] = {}
    for member in members:
        for name, value in member.counters.items():
            total[name] = total.get(name, 0.0) + value
    return total


def keep_counters(members: Sequence[Member], answers: Sequence[object]) -> None:
    """What their engines said of themselves, in the members' order."""
    for member, values in zip(members, answers, strict=True):
        if isinstance(values, dict):
            member.counters = {str(name): float(value) for name, value in values.items()}


def energy(answers: Sequence[object]) -> tuple[Energy | None, ...]:
    return tuple(from_json(Energy, answer) if isinstance(answer, dict) else None for answer in answers)


def gpu_readings(members: Iterable[Member]) -> list[GpuReading]:
    return [reading for member in members for reading in member.readings]


def counts(members: Iterable[Member]) -> list[MemberCounts]:
    return [
        MemberCounts(
            member=member.index, name=member.name, answered=member.answered, under_way=len(member.requests)
        )
        for member in members
    ]
