"""The running stage on a terminal: rich redraws it in place, and one line stays when it ends.

A LoadGen run takes a screen, where the terminal holds one; any other stage takes a line. No thread of rich's:
it is drawn where it is asked for. Imported only where a terminal is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.text import Text

from ..records.schema import Gpu
from . import screen
from .stage import Rank, Stage, State
from .style import colour_wanted, plain

GAP = Text("  ")
BAR_MIN, BAR_MAX = 8, 30
# Below this many columns a line has no time of day.
NARROW = 90


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:
        """It stays: a run that is killed could not bring it back."""
        return False


class LiveLine:
    """Draws a stage's line; `end` leaves it on the screen and goes to the next."""

    def __init__(
        self, stream: TextIO, env: Mapping[str, str], gpus: Sequence[Gpu] = (), folder: str = ""
    ) -> None:
        self._stream, self._env = stream, env
        self._console = _Console(
            file=stream,
            force_terminal=True,
            color_system="standard" if colour_wanted(stream, env) else None,
            _environ=env,
        )
        self._unicode = self._console.encoding.startswith("utf")
        self._spinner = Spinner("dots" if self._unicode else "line")
        degrees = "°C" if self._unicode else "C"
        self._frame = screen.Frame(self._bar, gpus, folder, degrees)
        self._live: Live | None = None

    def draw(self, stage: Stage, elapsed_s: float) -> None:
        self._update(stage, elapsed_s).refresh()

    def end(self, stage: Stage, elapsed_s: float) -> None:
        self._update(stage, elapsed_s).stop()
        self._live = None

    def _update(self, stage: Stage, elapsed_s: float) -> Live:
        self._console.size = self._size()
        if self._live is None:
            self._live = Live(
                console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            )
            self._live.start()
        self._live.update(self._content(stage, elapsed_s))
        return self._live

    def _content(self, stage: Stage, elapsed_s: float) -> RenderableType:
        columns, rows = self._console.size
        running = stage.state is State.RUNNING and stage.fields.get("running") is not None
        if running and screen.fits(columns, rows):
            return Group(*screen.lines(stage, elapsed_s, columns, rows, self._frame))
        # The last column stays free: some terminals wrap as soon as it is written.
        return self._line(stage, elapsed_s, columns - 1)

    def _size(self) -> tuple[int, int]:
        """Asked for each line, as a window changes; rich would ask about the standard streams."""
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            columns = lines = 0
        named = self._env.get("COLUMNS", "")
        return max(columns or int(named if named.isdigit() else 80), 20), lines or 24

    def _mark(self, stage: Stage, elapsed_s: float) -> Text:
        if stage.state is State.RUNNING:
            return Text(str(self._spinner.render(elapsed_s)))
        if stage.state is State.PASSED:
            return Text("✓" if self._unicode else "+", "green")
        return Text("·" if self._unicode else "=", "yellow")

    def _line(self, stage: Stage, elapsed_s: float, width: int) -> Text:
        """Mark, name, bar and the details that fit, in `width` columns."""
        head = [Text(f"{datetime.now():%H:%M:%S}", "dim")] if width >= NARROW else []
        left = GAP.join([*head, self._mark(stage, elapsed_s), Text(plain(stage.name), "bold")])
        left.truncate(width - len(GAP) - len(stage.percent), overflow="ellipsis")
        free = width - left.cell_len - len(GAP)
        if stage.share is None:
            return GAP.join([left, *_fitting(stage, elapsed_s, free, 0)])
        free -= len(stage.percent) + len(GAP)
        right = [Text(stage.percent), *_fitting(stage, elapsed_s, free, BAR_MIN + len(GAP))]
        free -= sum(part.cell_len + len(GAP) for part in right[1:])
        bar = [self._bar(stage.share, min(free, BAR_MAX))] if free >= BAR_MIN else []
        return GAP.join([left, *bar, *right])

    def _bar(self, share: float, width: int, colour: str = "green") -> Text:
        bar = ProgressBar(1.0, share, width, style="dim", complete_style=colour, finished_style=colour)
        text = Text.assemble(*((part.text, part.style or "") for part in self._console.render(bar)))
        # Without colours rich draws what is done and nothing else.
        text.set_length(width)
        return text


def _fitting(stage: Stage, elapsed_s: float, free: int, bar: int) -> list[Text]:
    """The details that fit, the first ranks first, in their own order. Rates leave `bar` columns."""
    kept: dict[int, Text] = {}
    for n, (rank, detail) in sorted(enumerate(stage.details(elapsed_s)), key=lambda part: part[1][0]):
        text = Text(detail)
        if rank is Rank.MESSAGE:
            text.truncate(max(0, free), overflow="ellipsis")
        if text and text.cell_len <= free - (bar if rank > Rank.TIME else 0):
            kept[n] = text
            free -= text.cell_len + len(GAP)
    return [kept[n] for n in sorted(kept)]
