"""events.jsonl: an object a line."""

from __future__ import annotations

from typing import TypedDict


class EventFields(TypedDict, total=False):
    """`done` of `total` `unit`; the rest where it applies. `gpu`: a GpuReading for each."""

    done: int
    total: int
    unit: str
    samples_per_s: float
    tokens_per_s: float
    eta_s: float
    message: str
    status: str
    gpu: list[dict[str, float | None]]


class Event(EventFields):
    """`time`: ISO 8601, UTC."""

    time: str
    stage: str
