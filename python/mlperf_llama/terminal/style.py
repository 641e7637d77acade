"""Colour and plain text on a terminal. Standard library only: `doctor` runs before any set-up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from ..credentials import redaction

RESET = "\x1b[0m"
COLOURS = {"dim": "\x1b[2m", "bold": "\x1b[1m", "green": "\x1b[32m", "yellow": "\x1b[33m", "red": "\x1b[31m"}


@dataclass(frozen=True)
class Style:
    """What the stream can show."""

    colour: bool = False

    def paint(self, text: str, colour: str) -> str:
        return f"{COLOURS[colour]}{text}{RESET}" if self.colour and text else text


def live_wanted(stream: TextIO, env: Mapping[str, str]) -> bool:
    """A line can be redrawn in place: a terminal that is not TERM=dumb."""
    return stream.isatty() and env.get("TERM", "") != "dumb"


def colour_wanted(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Colours only on a terminal that can show them, without NO_COLOR (https://no-color.org)."""
    return live_wanted(stream, env) and not env.get("NO_COLOR")


def plain(text: str) -> str:
    """Text on one line, control characters shown (an event may carry any message)."""
    return " ".join(redaction.visible(text).split())
