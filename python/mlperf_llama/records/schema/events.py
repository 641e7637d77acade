"""events.jsonl: an object a line."""

from __future__ import annotations

from typing import TypedDict


class MemberCounts(TypedDict):
    """What a member has answered since it was loaded, and what it holds now, in requests."""

    member: int
    name: str
    answered: int
    under_way: int


class SearchState(TypedDict, total=False):
    """How a search for the highest load stands: run `number`, at most `most`, at `qps`; the last run's room
    to the limits, in percent; the best load that a full-length run confirmed; seconds left at most."""

    number: int
    most: int
    kind: str
    qps: float
    ttft_room_percent: float
    tpot_room_percent: float
    best_qps: float
    left_s: float


class EventFields(TypedDict, total=False):
    """`done` of `total` `unit`; the rest where it applies. `gpu`: a GpuReading for each. `members`: every few
    seconds, where a run has several.

    Of a LoadGen run: which `run` of all `runs` it is, and `rest_s`, what the plans give those behind it; how
    many requests wait for their first token and how many are running; latencies so far.
    """

    done: int
    total: int
    unit: str
    samples_per_s: float
    tokens_per_s: float
    eta_s: float
    run: int
    runs: int
    rest_s: float
    waiting: int
    running: int
    ttft_p50_ms: float
    ttft_p99_ms: float
    tpot_p50_ms: float
    tpot_p99_ms: float
    search: SearchState
    message: str
    status: str
    gpu: list[dict[str, float | None]]
    members: list[MemberCounts]


class Event(EventFields):
    """`time`: ISO 8601, UTC."""

    time: str
    stage: str
