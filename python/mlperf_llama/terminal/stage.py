"""A stage of a run, and the text that says how far it is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from ..records.schema import EventFields
from . import figures
from .style import plain


class State(Enum):
    """`ENDED`: over, and nothing tells whether it got through."""

    RUNNING, PASSED, ENDED, STOPPED = "", "done", "ended", "stopped"


class Rank(IntEnum):
    """Where a line is short, the first ranks stay. A message ranks first where no count is beside it."""

    MESSAGE, COUNT, TIME, SAMPLES, TOKENS, ELAPSED, FIGURES, REST = range(8)


@dataclass
class Stage:
    """What is known of a stage; numbers stay from the last event that had them."""

    name: str
    started: float
    fields: EventFields
    state: State = State.RUNNING
    shown: float | None = None
    # How often it was shown.
    lines: int = 0
    # What is known beside the events: the last line of a log, what is fetched.
    note: str = ""

    @property
    def share(self) -> float | None:
        """The part that is done, 0 to 1; None where no total is known."""
        done, total = self.fields.get("done"), self.fields.get("total")
        return min(1.0, done / total) if total and done is not None else None

    @property
    def percent(self) -> str:
        return "" if self.share is None else f"{100 * self.share:3.0f}%"

    def end(self, state: State) -> None:
        """What was counted and is not complete was stopped, whatever came after it."""
        self.state = State.STOPPED if self.fields.get("total") and self.share != 1.0 else state

    def details(self, elapsed_s: float) -> list[tuple[Rank, str]]:
        """The text after the percentage, in order, each part with its rank."""
        known, running = self.fields, self.state is State.RUNNING
        done, total = known.get("done"), known.get("total")
        parts = []
        if done is not None:
            count = f"{done}/{total}" if total else f"{done}"
            parts.append((Rank.COUNT, f"{count} {known.get('unit', '')}".strip()))
        if known.get("message") and known.get("samples_per_s") is None:
            parts.append((Rank.MESSAGE if done is None else Rank.REST, plain(str(known["message"]))))
        if known.get("samples_per_s") is not None:
            parts.append((Rank.SAMPLES, f"{quantity(known['samples_per_s'])} samples/s"))
        if known.get("tokens_per_s") is not None:
            parts.append((Rank.TOKENS, f"{quantity(known['tokens_per_s'])} tok/s"))
        parts += [(Rank.FIGURES, text) for text in self._figures(running)]
        if running and self.note:
            parts.append((Rank.REST, self.note))
        if not running:
            return [*parts, (Rank.TIME, f"in {duration(elapsed_s)}")]
        if known.get("eta_s") is not None:
            parts.append((Rank.TIME, f"ETA {duration(known['eta_s'])}"))
        return [*parts, (Rank.ELAPSED, f"elapsed {duration(elapsed_s)}")]

    def _figures(self, running: bool) -> list[str]:
        """Those of a LoadGen run; requests and GPUs while it goes on."""
        known = self.fields
        texts = [gauge.text for gauge in figures.gauges(self.name, known)]
        if not running:
            return texts
        texts = [figures.requests(known), *texts, figures.all_gpus(known.get("gpu") or [])]
        state = known.get("search") or {}
        texts += [figures.place(known), *figures.search(state), figures.margins(state)]
        return list(filter(None, texts))


def duration(seconds: float) -> str:
    """0:07, 12:34 or 1:02:03."""
    hours, rest = divmod(max(0, int(seconds)), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def quantity(value: float) -> str:
    """A rate with three useful digits: 0.37, 3.40, 45.1, 5777."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"
