"""Who gives no sign, and who does not come: deadlines and heartbeats of the members."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from ...errors import BrokeError
from . import wire
from .failure import exits
from .member import Member
from .protocol import Launcher
from .start import Start

TICK_S = 0.5
# From the start of a member's process to its connection: importing the package takes a second, a queue of
# Slurm or a pull of an image minutes.
CONNECT_S = 300.0
# From then on until its engine serves: weights over a slow network, kernels compiled.
LOAD_S = 3600.0
# Of a member that serves, and of one that loads, whose beats a library may hold up.
SILENCE_S, LOADING_SILENCE_S = 5.0, 60.0
# A tick that comes later says that this process stood still: nobody else was silent.
LATE_S = 1.0


class Watch:
    """`lost`: told of each member that gives no sign. `in_run`: its engine's own signs count too."""

    def __init__(
        self,
        members: Mapping[int, Member],
        launcher: Launcher,
        start: Start,
        lost: Callable[[Member, str], None],
        engine_silence_s: float | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._members, self._launcher, self._start, self._lost = members, launcher, start, lost
        self._began = self._last = self._loop.time()
        self._pinged = 0.0
        self._handle: asyncio.TimerHandle | None = None
        self._engine_silence_s = engine_silence_s
        self.in_run = False

    def run_soon(self) -> None:
        self._handle = self._loop.call_later(TICK_S, self._tick)

    def stop(self) -> None:
        if self._handle:
            self._handle.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        late = now - self._last - TICK_S > LATE_S
        self._last = now
        if late:
            for member in self._members.values():
                member.heard = now
        if not self._start.done.done():
            self._check_start(now)
        for member in self._members.values():
            if member.connected and not member.gone and (cause := self._cause(member, now)):
                self._lost(member, cause)
        if now - self._pinged > wire.PING_S:
            self._pinged = now
            for member in self._members.values():
                member.ping()
        self.run_soon()

    def _cause(self, member: Member, now: float) -> str:
        """Why a member counts as lost; empty where it does not."""
        limit_s = SILENCE_S if member.report else LOADING_SILENCE_S
        if now - member.heard > limit_s:
            return f"gave no sign for {limit_s:g} s: stopped, hung or cut off"
        engine_s = self._engine_silence_s
        if self.in_run and engine_s and member.requests and member.engine_silent_s > engine_s:
            return f"its engine gave no sign for {engine_s:g} s and has {len(member.requests)} requests"
        return ""

    def _check_start(self, now: float) -> None:
        """Members that ended before they connected, and deadlines."""
        absent = [member for member in self._members.values() if not member.connected]
        ended = exits([member.spec for member in absent], self._launcher) if absent else {}
        if first := next((member for member in absent if member.index in ended), None):
            self._start.end(BrokeError(f"{first.name}: {ended[first.index]}"))
        elif absent and now - self._began > CONNECT_S:
            self._start.end(BrokeError(_late(absent, f"connect within {CONNECT_S:g} s")))
        elif now - self._began > CONNECT_S + LOAD_S:
            loading = [member for member in self._members.values() if member.report is None]
            self._start.end(BrokeError(_late(loading, f"load within {LOAD_S:g} s")))


def _late(members: list[Member], what: str) -> str:
    return f"replicas: expected every member to {what}; missing: {', '.join(m.name for m in members)}"
