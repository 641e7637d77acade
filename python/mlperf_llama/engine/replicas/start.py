"""The start of the members: who is in, who has loaded, what the first failure was."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from ...errors import BrokeError, MissingError, PipelineError, UsageError
from .. import EngineInfo, Progress
from . import settings, wire
from .member import Member
from .settings import Failure

log = logging.getLogger(__name__)

ERRORS: dict[str, type[PipelineError]] = {
    settings.MISSING: MissingError,
    settings.BROKE: BrokeError,
    settings.USAGE: UsageError,
}


class Start:
    """`connected`, `done`: every member is in, has loaded; or what ended it."""

    def __init__(self, members: Mapping[int, Member], progress: Progress) -> None:
        loop = asyncio.get_running_loop()
        self.connected: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self._members, self._progress = members, progress
        self._steps: Counter[str] = Counter()

    def admit(self, index: int, transport: asyncio.Transport) -> Member | None:
        """The member of this index, or the next free one for who names none."""
        free = [member for member in self._members.values() if not member.connected]
        if index == wire.ANY_MEMBER:
            member = next(iter(free), None)
        else:
            member = next((member for member in free if member.index == index), None)
        if member is None:
            log.warning("member_refused index=%d reason=not expected or in already", index)
            return None
        member.connected = True
        if len(free) == 1 and not self.connected.done():
            self.connected.set_result(None)
        return member

    def step(self, member: Member, text: str) -> None:
        self._steps[text] += 1
        self._progress(f"{text} ({self._steps[text]} of {len(self._members)} members)")

    def loaded(self, member: Member) -> None:
        missing = [other for other in self._members.values() if other.report is None]
        self._progress(f"{member.name}: loaded ({len(self._members) - len(missing)} of {len(self._members)})")
        if not missing and not self.done.done():
            self.done.set_result(None)

    def failed(self, member: Member, reported: Failure) -> bool:
        """Whether that ended the start."""
        if self.done.done():
            return False
        member.gone = True
        kind = ERRORS.get(reported.kind, BrokeError)
        self.end(kind(f"{member.name}: {reported.message}"))
        return True

    def end(self, error: Exception) -> None:
        for future in (self.connected, self.done):
            if not future.done():
                future.set_exception(error)
                # Whoever waits for the one never asks the other.
                future.exception()

    def info(self, load_s: float) -> EngineInfo:
        """The first member's, as that of all; what differs stands with each member."""
        infos = [member.report.info for member in self._members.values() if member.report]
        first = infos[0]
        shared = {**first.settings, "data_parallel_size": len(infos)}
        # All passed, or the worst tells.
        checks = [info.self_check for info in infos if info.self_check is not None]
        worst = max(checks, key=lambda check: (not check.passed, check.largest), default=None)
        return replace(first, settings=shared, load_s=round(load_s, 2), self_check=worst)
