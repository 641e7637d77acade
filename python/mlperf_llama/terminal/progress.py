"""Progress on the terminal: one live bar a stage on a TTY, a line every few seconds otherwise.

A listener for events.Events. Writes to the stream it is given (stderr) and
nothing else; a stream that goes away silences it, it never ends a run.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, TextIO

from .progress_line import ENDED, PASSED, RUNNING, STOPPED, Style, log_line, stage_line

REDRAW_S = 0.1
TICK_S = 0.5
LINE_EVERY_S = 5.0
CLEAR_LINE = "\r\x1b[K"


@dataclass
class Stage:
    """What is known of the running stage; numbers stay from the last event that had them."""

    name: str
    started: float
    fields: dict[str, Any]
    shown: float = 0.0

    @property
    def finished(self) -> bool:
        done, total = self.fields.get("done"), self.fields.get("total")
        return bool(total) and done is not None and done >= total


def colour_wanted(stream: TextIO, env: Mapping[str, str]) -> bool:
    """Colours only on a terminal that can show them, without NO_COLOR (https://no-color.org)."""
    return live_wanted(stream, env) and not env.get("NO_COLOR")


def live_wanted(stream: TextIO, env: Mapping[str, str]) -> bool:
    """A line can be redrawn in place: a terminal that is not TERM=dumb."""
    return stream.isatty() and env.get("TERM", "") != "dumb"


class TerminalProgress:
    """Call it with each event; `message` for log lines; `close` (or `with`) at the end."""

    def __init__(
        self, stream: TextIO, env: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream, self._env, self._clock = stream, env, clock
        self._live = live_wanted(stream, env)
        unicode = "utf" in (getattr(stream, "encoding", None) or "").lower()
        self._style = Style(colour=colour_wanted(stream, env), unicode=unicode)
        self._stage: Stage | None = None
        self._known: dict[str, float] = {}
        self._open_line = False
        self._dead = False
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        with self._lock:
            name = str(event.get("stage", ""))
            fields = {k: v for k, v in event.items() if k not in ("time", "stage") and v is not None}
            begins = self._stage is None or self._stage.name != name
            if begins:
                self._end_stage(PASSED)
                started = self._known.setdefault(name, self._clock())
                self._stage = Stage(name, started, fields)
                self._start_ticker()
            stage = self._stage
            assert stage is not None
            if not begins:
                stage.fields.update(fields)
            if stage.finished:
                self._end_stage(PASSED)
            else:
                self._show(stage, at_once=begins)

    def message(self, text: str, level: str = "info") -> None:
        """A time-stamped line above the bar."""
        with self._lock:
            self._put_line(log_line(datetime.now(), level, text, self._style))
            if self._stage and self._live:
                self._draw(self._stage)

    def close(self) -> None:
        """End the live line. May be called twice, and from an interrupted run."""
        self._stop.set()
        with self._lock:
            self._end_stage(ENDED)

    def _width(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):
            columns = 0
        if columns <= 0:
            text = self._env.get("COLUMNS", "")
            columns = int(text) if text.isdigit() else 0
        # The last column stays free: some terminals wrap as soon as it is written.
        return max(columns or 80, 20) - 1

    def _write(self, text: str) -> None:
        if self._dead:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._dead = True

    def _put_line(self, text: str) -> None:
        self._write((CLEAR_LINE if self._open_line else "") + text + "\n")
        self._open_line = False

    def _line(self, stage: Stage, state: str = RUNNING) -> str:
        width = self._width() if self._live else None
        elapsed = self._clock() - stage.started
        return stage_line(stage.name, stage.fields, elapsed, state, datetime.now(), width, self._style)

    def _draw(self, stage: Stage) -> None:
        self._write(CLEAR_LINE + self._line(stage))
        self._open_line = True
        stage.shown = self._clock()

    def _show(self, stage: Stage, at_once: bool) -> None:
        quiet_s = self._clock() - stage.shown
        if not at_once and quiet_s < (REDRAW_S if self._live else LINE_EVERY_S):
            return
        if self._live:
            self._draw(stage)
        else:
            self._put_line(self._line(stage))
            stage.shown = self._clock()

    def _end_stage(self, state: str) -> None:
        """The stage's last line. A stage without a total has passed when the next one starts;
        where the run itself ends nothing tells whether it got through, so the line claims nothing."""
        stage, self._stage = self._stage, None
        if stage is None:
            return
        counted = bool(stage.fields.get("total"))
        self._put_line(self._line(stage, STOPPED if counted and not stage.finished else state))
        if stage.finished:
            self._known.pop(stage.name, None)

    def _start_ticker(self) -> None:
        """On a TTY the clock and the spinner move while a stage is silent."""
        if not self._live or self._ticker or self._stop.is_set():
            return
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._ticker.start()

    def _tick(self) -> None:
        while not self._stop.wait(TICK_S):
            with self._lock:
                if self._stage and not self._stop.is_set():
                    self._show(self._stage, at_once=False)


class ProgressHandler(logging.Handler):
    """Sends log records through the bar, so that none breaks its line."""

    def __init__(self, progress: TerminalProgress, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._progress.message(self.format(record), record.levelname.lower())
        except Exception:
            self.handleError(record)
