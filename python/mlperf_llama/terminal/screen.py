"""A LoadGen run that goes on, as a screen: its lines, for a terminal of so many columns and rows.

Pure: live.py draws them. Every line fits its width, and all of them the rows that there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.text import Text

from ..records.schema import Gpu
from . import figures
from .figures import Gauge
from .stage import Stage, duration, quantity
from .style import plain

LABEL = 10
# Fewer rows or columns than this get the line alone.
LEAST_ROWS, LEAST_COLUMNS = 18, 60
BAR_LEAST, BAR_MOST = 10, 60
# share, width, colour -> a bar.
Bar = Callable[[float, int, str], Text]


@dataclass(frozen=True)
class Frame:
    """What the screen shows beside the stage. `bar`: draws a bar; `degrees`: the unit of temperatures."""

    bar: Bar
    gpus: Sequence[Gpu] = ()
    folder: str = ""
    degrees: str = "C"


def fits(columns: int, rows: int) -> bool:
    return rows >= LEAST_ROWS and columns >= LEAST_COLUMNS


def lines(stage: Stage, elapsed_s: float, columns: int, rows: int, frame: Frame) -> list[Text]:
    """The whole screen, at most `rows` - 1 lines: the last row stays free for the cursor."""
    fields = stage.fields
    top = [_head(stage, elapsed_s, columns), _progress(stage, columns, frame)]
    if fields.get("message"):
        top.append(_row("plan", plain(fields["message"]), "dim"))
    known = figures.gauges(stage.name, fields)
    top += [Text(""), _row("requests", _requests(stage)), _row("speed", _speed(stage))]
    top += [_gauge(gauge, columns, frame) for gauge in known]
    top += _limits(known)
    bottom = []
    if state := fields.get("search"):
        bottom.append(_row("search", "  ".join(figures.search(state))))
        if text := figures.margins(state):
            bottom.append(_row("", text))
    if fields.get("runs"):
        bottom.append(_row("all runs", _whole(stage)))
    if frame.folder:
        bottom.append(_row("folder", frame.folder, "dim"))
    free = rows - 1 - len(top) - len(bottom)
    screen = [*top, *_gpus(stage, free, frame), *bottom]
    for line in screen:
        line.no_wrap = True
        line.truncate(columns - 1, overflow="ellipsis")
    return screen[: rows - 1]


def _row(label: str, text: str | Text, style: str = "") -> Text:
    return Text.assemble((label.ljust(LABEL), "dim"), text if isinstance(text, Text) else (text, style))


def _head(stage: Stage, elapsed_s: float, columns: int) -> Text:
    left = Text.assemble((plain(stage.name), "bold"), "   ", figures.place(stage.fields))
    eta = stage.fields.get("eta_s")
    right = f"elapsed {duration(elapsed_s)}" + ("" if eta is None else f"   ETA {duration(eta)}")
    left.truncate(max(1, columns - 3 - len(right)), overflow="ellipsis")
    gap = columns - 1 - left.cell_len - len(right)
    return Text.assemble(left, " " * max(1, gap), right)


def _progress(stage: Stage, columns: int, frame: Frame) -> Text:
    done, total = stage.fields.get("done", 0), stage.fields.get("total", 0)
    right = f"  {stage.percent}  {done:,} of {total:,} {stage.fields.get('unit', '')}".rstrip()
    bar = frame.bar(stage.share or 0.0, max(BAR_LEAST, columns - 1 - len(right)), figures.GREEN)
    return Text.assemble(bar, right)


def _requests(stage: Stage) -> str:
    return "  ".join(filter(None, [figures.requests(stage.fields), f"{stage.fields.get('done', 0):,} done"]))


def _speed(stage: Stage) -> str:
    samples, tokens = stage.fields.get("samples_per_s"), stage.fields.get("tokens_per_s")
    parts = [f"{quantity(samples)} samples/s" if samples is not None else ""]
    parts.append(f"{tokens:,.0f} tokens/s" if tokens is not None else "")
    return "  ".join(filter(None, parts)) or "no answer yet"


def _gauge(gauge: Gauge, columns: int, frame: Frame) -> Text:
    row = _row(gauge.name, gauge.times.ljust(28))
    if gauge.share is None:
        return row
    free = columns - 1 - row.cell_len - len(gauge.limit) - 2
    if free >= BAR_LEAST:
        row.append_text(frame.bar(min(1.0, gauge.share), min(free, BAR_MOST), gauge.tone)).append("  ")
    return row.append(gauge.limit, gauge.tone)


def _limits(known: list[Gauge]) -> list[Text]:
    """In a word: whether the run would be VALID if it ended now."""
    limited = [gauge for gauge in known if gauge.share is not None]
    if not limited:
        return []
    over = [gauge.name for gauge in limited if gauge.tone == figures.RED]
    near = [gauge.name for gauge in limited if gauge.tone == figures.YELLOW]
    if over:
        return [_row("limits", f"{' and '.join(over)} over the limit: INVALID, as it stands", "bold red")]
    if near:
        return [_row("limits", f"{' and '.join(near)} near the limit", "yellow")]
    return [_row("limits", "kept, with room", "green")]


def _gpus(stage: Stage, free: int, frame: Frame) -> list[Text]:
    """A line for each GPU; where they do not fit, the last line tells of the others together."""
    readings = stage.fields.get("gpu") or []
    cards = {card.index: card for card in frame.gpus}
    shown = len(readings) if len(readings) <= free else max(0, free - 1)
    rows = []
    for reading in readings[:shown]:
        index, member = int(reading.get("index") or 0), reading.get("member")
        label = f"GPU {index}" if member is None else f"member {member:.0f}"
        card = cards.get(index, figures.UNKNOWN)
        rows.append(_row(label, figures.gpu(reading, card, frame.degrees)))
    rest = readings[shown:]
    return [*rows, *([_row("others", figures.all_gpus(rest))] if rest and free > 0 else [])]


def _whole(stage: Stage) -> str:
    rest, eta = stage.fields.get("rest_s"), stage.fields.get("eta_s")
    if rest is None:
        return ""
    return f"about {figures.minutes(rest + (eta or 0.0))} left, without loading and scoring"
