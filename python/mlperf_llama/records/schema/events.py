"""events.jsonl: an object a line."""

from __future__ import annotations

from typing import TypedDict


class MemberCounts(TypedDict):
    """What a member has answered since it was loaded, and what it holds now, in requests."""

    member: int
    name: str
    answered: int
    under_way: int


class EventFields(TypedDict, total=False):
    """`done` of `total` `unit`; the rest where it applies. `gpu`: a GpuReading for each. `members`: every few
    seconds, where a run has several."""

    done: int
    total: int
    unit: str
    samples_per_s: float
    tokens_per_s: float
    eta_s: float
    message: str
    status: str
    gpu: list[dict[str, float | None]]
    members: list[MemberCounts]


class Event(EventFields):
    """`time`: ISO 8601, UTC."""

    time: str
    stage: str
