"""One line of progress as text: which fields, in which order, fitted to a width. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

RESET = "\x1b[0m"
COLOURS = {"dim": "\x1b[2m", "bold": "\x1b[1m", "green": "\x1b[32m", "yellow": "\x1b[33m", "red": "\x1b[31m"}
LEVEL_COLOUR = {"warning": "yellow", "error": "red", "critical": "red"}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINNER_ASCII = "-\\|/"
BAR_MIN, BAR_MAX = 8, 30
# What a line says of its stage.
RUNNING, PASSED, ENDED, STOPPED = "running", "done", "ended", "stopped"


@dataclass(frozen=True)
class Style:
    """What the terminal can show."""

    colour: bool = False
    unicode: bool = True

    def paint(self, text: str, colour: str) -> str:
        return f"{COLOURS[colour]}{text}{RESET}" if self.colour and text else text


def duration(seconds: float) -> str:
    """0:07, 12:34 or 1:02:03."""
    whole = max(0, int(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def quantity(value: float) -> str:
    """A rate with three useful digits: 0.37, 3.40, 45.1, 5777."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cells(text: str) -> int:
    """Columns on a terminal: East Asian wide characters take two, combining marks none."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(bool(unicodedata.combining(c)) for c in text)


def plain(text: str) -> str:
    """Text on one line, without control characters (an event may carry any message)."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def fit(text: str, width: int) -> str:
    """Cut to `width` columns, with an ellipsis where something was lost."""
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "…" if width > 0 else ""


def bar(share: float, width: int, style: Style) -> str:
    full = round(max(0.0, min(1.0, share)) * width)
    on, off = ("━", "─") if style.unicode else ("#", ".")
    return style.paint(on * full, "green") + style.paint(off * (width - full), "dim")


def details(fields: Mapping[str, Any], elapsed_s: float, state: str) -> list[tuple[int, str]]:
    """The fields after the bar, each with its priority: the highest number goes first."""
    done, total, unit = fields.get("done"), fields.get("total"), str(fields.get("unit", ""))
    found: list[tuple[int, str]] = []
    if done is not None:
        count = f"{done}/{total}" if total else str(done)
        found.append((1, f"{count} {unit}".strip()))
    if fields.get("message"):
        found.append((2, plain(str(fields["message"]))))
    if fields.get("samples_per_s") is not None:
        found.append((3, f"{quantity(fields['samples_per_s'])} samples/s"))
    if fields.get("tokens_per_s") is not None:
        found.append((4, f"{quantity(fields['tokens_per_s'])} tok/s"))
    if fields.get("eta_s") is not None and state == RUNNING:
        found.append((2, f"ETA {duration(fields['eta_s'])}"))
    found.append((5, ("elapsed " if state == RUNNING else "in ") + duration(elapsed_s)))
    return found


def _mark(elapsed_s: float, state: str, style: Style) -> str:
    if state == PASSED:
        return style.paint("✓" if style.unicode else "+", "green")
    if state != RUNNING:
        return style.paint("·" if style.unicode else "=", "yellow")
    frames = SPINNER if style.unicode else SPINNER_ASCII
    return frames[int(elapsed_s * 4) % len(frames)]


def stage_line(
    name: str,
    fields: Mapping[str, Any],
    elapsed_s: float,
    state: str,
    now: datetime,
    width: int | None,
    style: Style,
) -> str:
    """One stage's line. `width` None: not a terminal, so no bar, no spinner and no cut."""
    done, total = fields.get("done"), fields.get("total")
    percent = f"{100 * min(1.0, done / total):3.0f}%" if total and done is not None else ""
    parts = details(fields, elapsed_s, state)
    stamp, name = f"{now:%H:%M:%S}", plain(name)
    if width is None:
        last = "" if state == RUNNING else state
        return "  ".join(p for p in (stamp, name, percent.strip(), *(t for _, t in parts), last) if p)

    # Columns that are always there: stamp, mark, name, percentage.
    fixed = [stamp, "x", name] + ([percent] if percent else [])

    def used(kept: list[tuple[int, str]]) -> int:
        return sum(cells(t) + 2 for t in [*fixed, *(t for _, t in kept)]) - 2

    while parts and used(parts) > width:
        parts.remove(max(parts, key=lambda part: part[0]))
    room = width - used(parts) - 2
    drawn = ""
    if percent and room >= BAR_MIN:
        drawn = bar(done / total, min(room, BAR_MAX), style)  # type: ignore[operator]
    if not parts and used([]) > width:
        return fit("  ".join([name, percent]) if percent else name, width)
    mark = _mark(elapsed_s, state, style)
    shown = [style.paint(stamp, "dim"), mark, style.paint(name, "bold"), drawn, percent]
    return "  ".join(p for p in [*shown, *(t for _, t in parts)] if p)


def log_line(now: datetime, level: str, text: str, style: Style) -> str:
    """A time-stamped message; info carries no word for its level."""
    colour = LEVEL_COLOUR.get(level)
    word = f"{level}: " if level != "info" else ""
    return f"{style.paint(f'{now:%H:%M:%S}', 'dim')}  {style.paint(word, colour) if colour else word}{text}"
