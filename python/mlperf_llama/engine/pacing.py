"""When the prompts that wait may enter a step: gathered, and with answers alone in between.

A few large mixed steps use a GPU better than many small ones, and a prompt that is not split
over steps need not read the cache. What TTFT can spare, TPOT gains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Protocol


class Waiting(Protocol):
    """A request of vLLM: its tokens, and when it came (seconds of the wall clock)."""

    @property
    def num_tokens(self) -> int: ...

    @property
    def arrival_time(self) -> float: ...


@dataclass
class Past:
    """The last step with prompts: how many steps ago, and when (seconds of the wall clock)."""

    steps: int = 0
    time: float = 0.0


@dataclass(frozen=True)
class Pacing:
    """`whole_prompts`: none is split over steps. `hold_tokens`: prompts wait until those that
    find a seat have so many tokens, but at most `hold_ms` once there is one and the last have
    entered. `gap_steps`: at least so many steps of answers alone behind one with prompts."""

    whole_prompts: bool = False
    hold_tokens: int = 0
    hold_ms: float = 0.0
    gap_steps: int = 0

    def holds(self, waiting: Iterable[Waiting], running: int, seats: int, past: Past, now: float) -> bool:
        """Whether no prompt should enter this step; `running` sequences answer meanwhile.

        `now`: seconds of the wall clock, as in `arrival_time`.
        """
        if not running:
            return False
        if past.steps < self.gap_steps:
            return True
        if not self.hold_tokens:
            return False
        tokens, since = 0, None
        for request in islice(waiting, max(seats - running, 0)):
            since = max(request.arrival_time, past.time) if since is None else since
            tokens += request.num_tokens
            if tokens >= self.hold_tokens:
                return False
        return since is not None and now - since < self.hold_ms / 1000
