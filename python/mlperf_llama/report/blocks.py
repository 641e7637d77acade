"""A report as data: sections of text, tables and charts. Markdown and HTML render the same blocks."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

from ..credentials.redaction import visible

NOTHING = "—"


@dataclass(frozen=True)
class Text:
    """A paragraph. `tone`: plain, good, bad or warn."""

    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Items:
    """A bullet list."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """`align` has one letter per column, l or r. Cells are plain text; a cell that is exactly
    one of the words in TONES is coloured. `folded`: HTML shows it closed; `printed`: but open in print."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    align: str
    title: str = ""
    note: str = ""
    folded: bool = False
    printed: bool = False


@dataclass(frozen=True)
class Bar:
    """A row of Bars: `name`, more about it, its value and that as text. `mine`: this run."""

    name: str
    about: str
    value: float
    text: str
    mine: bool = False


@dataclass(frozen=True)
class Bars:
    """Horizontal bars from zero, a table row each."""

    title: str
    headers: tuple[str, str, str]
    bars: tuple[Bar, ...]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """An inline SVG made by svg.py (already escaped) and what it shows, in words, for Markdown."""

    title: str
    svg: str
    description: str


@dataclass(frozen=True)
class Folded:
    """Blocks behind a title that HTML shows closed."""

    title: str
    blocks: tuple[Text | Items | Table | Bars | Chart, ...]


Block = Text | Items | Table | Bars | Chart | Folded


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Banner:
    """What has to be seen first. `tone` as in Text."""

    title: str
    lines: tuple[str, ...]
    tone: str


@dataclass(frozen=True)
class Document:
    """`watermark`: text laid under every page of a run that is no MLPerf result."""

    title: str
    subtitle: str
    banner: Banner
    watermark: str
    sections: tuple[Section, ...] = field(default_factory=tuple)


# Cells that say how something went, and their tone.
TONES = {
    "VALID": "good", "INVALID": "bad", "passed": "good", "failed": "bad", "served": "good",
    "reached": "good", "missed": "bad", "yes": "good", "no": "bad", "complete": "good",
    "interrupted": "warn", "running": "warn",
}  # fmt: skip


def escape(text: str) -> str:
    """Text as HTML and SVG show it as it is, control characters too."""
    return html.escape(visible(text))


def number(value: object, digits: int = 2) -> str:
    """Thousands in groups of three, a fixed number of decimals; a dash where nothing was measured.
    A large number loses the decimals that say nothing, and a small one gets as many as it needs."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return NOTHING
    if isinstance(value, int) or abs(value) >= 100_000:
        digits = 0
    elif 0 < abs(value) < 0.5 * 10**-digits:
        return f"{value:.1g}"
    return f"{value:,.{digits}f}".replace(",", " ")


def word(value: object) -> str:
    """Any recorded value as a cell."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(v) for v in value) or NOTHING
    return str(value)


def time(seconds: float | None) -> str:
    """A duration as people say it: 0.4 s, 45 s, 12 min, 1 h 05 min."""
    if seconds is None:
        return NOTHING
    if seconds < 90:
        return f"{number(seconds, 1 if seconds < 10 else 0)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
