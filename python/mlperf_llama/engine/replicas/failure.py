"""Members that are lost: what is said of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from .protocol import Launcher, MemberSpec

# A process's exit is known this long after the end of its connection, or not at all.
EXIT_KNOWN_S = 1.0
POLL_S = 0.05


@dataclass(frozen=True)
class Loss:
    """A member that serves no more; `unfinished`: requests it had not answered."""

    member: int
    name: str
    cause: str
    unfinished: int

    @property
    def text(self) -> str:
        return f"{self.name}: {self.cause}"


def explained(words: str, losses: Sequence[Loss]) -> str:
    """`words`, which begin with a member's name; where that member was lost, what was said then."""
    return next((loss.text for loss in losses if words.startswith(f"{loss.name}: ")), words)


def exits(members: Sequence[MemberSpec], launcher: Launcher) -> dict[int, str]:
    """How the processes of members ended, of those that have; without their names."""
    words = launcher.failures()
    return {m.index: words[m.index].removeprefix(f"{m.name}: ") for m in members if m.index in words}


async def cause_of(member: MemberSpec, launcher: Launcher) -> str:
    """Why a member's connection ended: its process's exit, where the launcher can tell."""
    for _ in range(int(EXIT_KNOWN_S / POLL_S)):
        if words := exits([member], launcher).get(member.index):
            return words
        await asyncio.sleep(POLL_S)
    return "its connection ended, and its process did not say why"
