"""hashes.json: the seal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .fields import absent


@dataclass(frozen=True)
class SealedStage:
    """`source`: the hash of the code that ran the stage. `part`: the LoadGen run or other part of it that
    was sealed when it had ended; absent of the whole stage."""

    stage: str
    sealed: str
    source: str | None = None
    part: str | None = absent()


@dataclass(frozen=True)
class OpenStage:
    """A stage at work, or one that was killed. `paths`: what it is writing. `pending`: the SHA-256 of each
    record that it was about to replace."""

    stage: str
    began: str
    source: str | None = None
    paths: tuple[str, ...] = ()
    pending: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seal:
    """`broken`: files that changed between stages, for good. `files`: SHA-256 by relative path."""

    FILE: ClassVar[str] = "hashes.json"
    stages: tuple[SealedStage, ...] = ()
    broken: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    open: OpenStage | None = absent()
