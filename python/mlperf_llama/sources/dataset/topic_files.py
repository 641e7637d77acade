"""What the grammar draws from: topics/*.toml, read and compiled."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ...records import codec

TOPICS = Path(__file__).parent / "topics"
COMMON, NAMES = "common", "names"

Template = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TopicFile:
    """A topic's TOML file: its templates, and by name of a fact what it is drawn from.

    `numbers`: lowest, highest and, where it is not 1, the step. `relative`: another number, and
    what is added to it at least and at most.
    """

    matter: str
    core: tuple[str, ...]
    details: tuple[str, ...]
    summary: tuple[str, ...]
    people: tuple[str, ...] = ()
    men: tuple[str, ...] = ()
    numbers: dict[str, tuple[int, ...]] = field(default_factory=dict)
    relative: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    decimals: dict[str, tuple[float, float]] = field(default_factory=dict)
    years: dict[str, tuple[int, int]] = field(default_factory=dict)
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class CommonFile:
    """Paragraphs that fit every topic."""

    details: tuple[str, ...]


@dataclass(frozen=True)
class Names:
    """What people, places and dates are drawn from."""

    women: tuple[str, ...]
    men: tuple[str, ...]
    surnames: tuple[str, ...]
    town_beginnings: tuple[str, ...]
    town_endings: tuple[str, ...]
    cities: tuple[str, ...]
    regions: tuple[str, ...]
    streets: tuple[str, ...]
    jobs: tuple[str, ...]
    days: tuple[str, ...]
    months: tuple[str, ...]


@dataclass(frozen=True)
class Topic:
    """A topic's templates, compiled, and its file."""

    core: tuple[Template, ...]
    details: tuple[Template, ...]
    summary: tuple[Template, ...]
    file: TopicFile


def compile_template(text: str) -> Template:
    """Split `a [b|c] d` into the choices at each place."""
    parts = re.split(r"\[([^\]]*)\]", text)
    return tuple(tuple(part.split("|")) if at % 2 else (part,) for at, part in enumerate(parts))


@cache
def load() -> tuple[tuple[Topic, ...], tuple[Template, ...], Names]:
    """The topics, the common paragraphs and the names."""

    def compiled(lines: Sequence[str]) -> tuple[Template, ...]:
        return tuple(map(compile_template, lines))

    files = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in paths()}
    common = codec.from_json(CommonFile, files.pop(COMMON))
    names = codec.from_json(Names, files.pop(NAMES))
    topics = [codec.from_json(TopicFile, data) for data in files.values()]
    return (
        tuple(Topic(compiled(t.core), compiled(t.details), compiled(t.summary), t) for t in topics),
        compiled(common.details),
        names,
    )


def paths() -> list[Path]:
    """Every file, in a fixed order."""
    return sorted(TOPICS.glob("*.toml"))
