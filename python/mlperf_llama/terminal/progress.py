"""Progress for people: one live line per stage on a terminal, a line every few seconds elsewhere.

A listener for events.Events. Writes to the stream it is given (stderr) and
nothing else; a stream that goes away silences it, it never ends a run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..records.schema import Event, EventFields, Gpu, SearchState
from . import activity
from .stage import Stage, State
from .style import live_wanted, plain

if TYPE_CHECKING:
    from .live import LiveLine

# Events come twice a second while LoadGen runs; a line costs its event loop a fraction of a millisecond.
REDRAW_S = 0.25
# A stage that is silent this long is drawn again: its clock and spinner move.
TICK_S = 1.0
LINE_EVERY_S = 5.0
# Of a run that counts, however long it is; its end is one of them.
MOST_LINES = 60


class PlainLines:
    """A time-stamped line each time, for pipes and files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def draw(self, stage: Stage, elapsed_s: float) -> None:
        details = [text for _, text in stage.details(elapsed_s)]
        parts = [f"{datetime.now():%H:%M:%S}", plain(stage.name), stage.percent.strip(), *details]
        self._stream.write("  ".join(part for part in [*parts, stage.state.value] if part) + "\n")
        self._stream.flush()

    end = draw


class TerminalProgress:
    """Call it with each event, and `close` it. `log`: its last line tells what a silent stage is at, and it
    lies in the run folder. `quiet`: nothing is shown."""

    def __init__(
        self,
        stream: TextIO,
        env: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        log: Path | None = None,
        gpus: Sequence[Gpu] = (),
        quiet: bool = False,
    ) -> None:
        self._stream, self._clock, self._log, self._log_start = stream, clock, log, 0
        self._display: PlainLines | LiveLine = PlainLines(stream)
        self._interval_s, self._silent_s = LINE_EVERY_S, activity.SILENT_S
        self._stage: Stage | None = None
        self._search: SearchState | None = None
        self._started: dict[str, float] = {}
        self._lock = threading.RLock()
        self._closed = threading.Event()
        if quiet:
            self._closed.set()
        if live_wanted(stream, env):
            from .live import LiveLine

            live = LiveLine(stream, env, gpus, str(log.parent) if log else "")
            self._display, self._interval_s, self._silent_s = live, REDRAW_S, TICK_S
        threading.Thread(target=self._tick, name="progress", daemon=True).start()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            name = event["stage"]
            if self._stage is None or self._stage.name != name:
                self._end(State.PASSED)
                self._stage = Stage(name, self._started.setdefault(name, self._clock()), self._lasting())
                self._log_start = activity.size_of(self._log)
            self._stage.fields.update(event)
            self._search = event.get("search", self._search)
            if self._stage.share == 1.0:
                self._end(State.PASSED)
            else:
                self._draw(self._interval_s)

    def _lasting(self) -> EventFields:
        """What one stage leaves to the next: how a search stands."""
        return EventFields(search=self._search) if self._search else EventFields()

    def close(self) -> None:
        """End the line; nothing is written afterwards. May be called twice, and from an interrupted run."""
        with self._lock:
            # Nothing tells whether the last stage got through, unless it was counted.
            self._end(State.ENDED)
            self._closed.set()

    def _draw(self, interval_s: float) -> None:
        stage, now = self._stage, self._clock()
        if stage and self._is_due(stage, now, interval_s):
            stage.shown = now
            stage.lines += 1
            self._write(self._display.draw, stage)

    def _is_due(self, stage: Stage, now: float, interval_s: float) -> bool:
        """Lines that stay stand further apart the longer the whole run takes."""
        if stage.shown is None:
            return True
        if isinstance(self._display, PlainLines) and stage.share is not None:
            if stage.lines >= MOST_LINES - 1:
                return False
            elapsed_s = now - stage.started
            whole_s = elapsed_s + stage.fields.get("eta_s", elapsed_s)
            interval_s = max(interval_s, 1.25 * whole_s / MOST_LINES)
        return now - stage.shown >= interval_s

    def _end(self, state: State) -> None:
        """A stage without a total has passed when the next one starts."""
        stage, self._stage = self._stage, None
        if stage:
            stage.end(state)
            self._write(self._display.end, stage)
            if stage.share == 1.0:
                self._started.pop(stage.name)

    def _write(self, show: Callable[[Stage, float], None], stage: Stage) -> None:
        if self._closed.is_set() or self._stream.closed:
            return
        try:
            show(stage, self._clock() - stage.started)
        except OSError:
            self._closed.set()

    def _tick(self) -> None:
        while not self._closed.wait(TICK_S):
            with self._lock:
                if self._stage and self._stage.share is None:
                    self._stage.note = self._note()
                self._draw(self._silent_s)

    def _note(self) -> str:
        """What a stage that counts nothing is at."""
        return activity.latest() or (activity.last_line(self._log, self._log_start) if self._log else "")
