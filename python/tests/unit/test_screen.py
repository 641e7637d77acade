"""The screen of a LoadGen run, its figures, and how often they are told."""

from __future__ import annotations

import io
import re
import threading
import time
from typing import Any

import pytest
from rich.cells import cell_len
from rich.text import Text

from mlperf_llama.records.schema import Event, Gpu
from mlperf_llama.terminal import figures, progress, screen
from mlperf_llama.terminal.aside import Aside
from mlperf_llama.terminal.live import LiveLine
from mlperf_llama.terminal.progress import MOST_LINES, TerminalProgress
from mlperf_llama.terminal.stage import Stage
from mlperf_llama.tune.forecast import Goal
from mlperf_llama.tune.records import Probe
from mlperf_llama.tune.search import Step
from mlperf_llama.tune.state import state

READING = {
    "index": 0,
    "power_w": 689.6,
    "sm_clock_mhz": 1540.0,
    "temperature_c": 67.0,
    "memory_used_gib": 71.2,
    "utilisation_percent": 99.0,
}
SEARCH = {
    "number": 3,
    "most": 14,
    "kind": "probe",
    "qps": 22.1,
    "best_qps": 20.1,
    "ttft_room_percent": 12.0,
    "tpot_room_percent": -5.0,
    "left_s": 2100.0,
}
CARDS = [Gpu(index=i, memory_gib=79.65, power_limit_w=700.0, max_sm_clock_mhz=1980) for i in range(8)]


def stage(name: str = "Server performance", gpus: int = 1, **changes: Any) -> Stage:
    fields: dict[str, Any] = {
        "done": 4545, "total": 13368, "unit": "samples", "samples_per_s": 22.1, "tokens_per_s": 2829.0,
        "eta_s": 460.0, "waiting": 12, "running": 84, "ttft_p50_ms": 120.0, "ttft_p99_ms": 1612.0,
        "tpot_p50_ms": 22.3, "tpot_p99_ms": 26.2, "run": 3, "runs": 9, "rest_s": 2900.0,
        "message": "13,368 queries, about 10.0 min at 22 queries/s",
        "gpu": [{**READING, "index": index} for index in range(gpus)],
    }  # fmt: skip
    fields.update(changes)
    return Stage(name, 0.0, fields)  # type: ignore[arg-type]


def bar(share: float, width: int, colour: str) -> Text:
    return Text(("#" * round(share * width)).ljust(width, "-"), colour)


def shown(one: Stage, columns: int = 80, rows: int = 24, folder: str = "results/x") -> list[Text]:
    return screen.lines(one, 151.0, columns, rows, screen.Frame(bar, CARDS, folder))


def text(one: Stage, **size: int) -> str:
    return "\n".join(line.plain for line in shown(one, **size))


def tone(lines: list[Text], label: str) -> set[str]:
    line = next(line for line in lines if line.plain.startswith(label))
    return {str(span.style) for span in line.spans} - {"dim", ""}


def test_a_screen_of_24_rows_tells_everything() -> None:
    told = text(stage(gpus=8, search=SEARCH))
    for part in (
        "Server performance   run 3 of 9",
        "elapsed 2:31   ETA 7:40",
        "34%  4,545 of 13,368 samples",
        "12 waiting  84 running  4,545 done",
        "22.1 samples/s  2,829 tokens/s",
        "p50 120  p99 1,612 ms",
        "81% of 2,000 ms",
        "26% of 100 ms",
        "GPU 7     690 of 700 W  1,540 of 1,980 MHz  67 C  71.2 of 79.7 GiB  99% busy",
        "probe 3 of at most 14  at 22.1/s  best so far 20.1/s",
        "the run before: TTFT 12% room, TPOT 5% over",
        "about 56 min left",
        "results/x",
    ):
        assert part in told


@pytest.mark.parametrize("columns", [60, 80, 132, 200])
@pytest.mark.parametrize("rows", [18, 24, 50])
@pytest.mark.parametrize("gpus", [0, 1, 8, 16])
def test_it_fits_every_terminal(columns: int, rows: int, gpus: int) -> None:
    one = stage(gpus=gpus, search=SEARCH, message="日本語 " * 60)
    lines = shown(one, columns, rows, "results/" + "long" * 40)
    assert len(lines) <= rows - 1
    assert max(cell_len(line.plain) for line in lines) <= columns - 1
    told = "\n".join(line.plain for line in lines)
    assert told.count("GPU ") + (1 if "others" in told else 0) >= min(gpus, 1)
    assert screen.fits(columns, rows)
    assert not screen.fits(columns, 17) and not screen.fits(59, rows)


def test_gpus_that_do_not_fit_are_told_together() -> None:
    told = text(stage(gpus=16))
    rest = re.search(r"others +(\d+) GPUs ([\d,]+) W", told)
    assert rest and told.count("690 of 700 W") + told.count("690 W  ") == 16 - int(rest[1])
    assert f"{int(rest[1]) * 689.6:,.0f}" == rest[2]


@pytest.mark.parametrize(
    ("ttft", "colour", "words"),
    [
        (1599.0, "green", "kept, with room"),
        (1600.0, "yellow", "TTFT near the limit"),
        (2000.0, "yellow", "TTFT near the limit"),
        (2001.0, "red", "TTFT over the limit: INVALID, as it stands"),
    ],
)
def test_a_gauge_turns_yellow_at_80_percent_and_red_over_its_limit(
    ttft: float, colour: str, words: str
) -> None:
    lines = shown(stage(ttft_p99_ms=ttft))
    assert tone(lines, "TTFT") == {colour}
    assert tone(lines, "TPOT") == {"green"}
    told = "\n".join(line.plain for line in lines)
    assert words in told and (" OVER" in told) == (colour == "red")


def test_limits_count_in_performance_runs_and_probes_alone() -> None:
    for kind, limited in (
        ("performance", True),
        ("probe 03", True),
        ("accuracy", False),
        ("compliance", False),
    ):
        gauges = figures.gauges(f"Interactive {kind}", stage().fields)
        assert [gauge.limit_ms for gauge in gauges] == ([500.0, 30.0] if limited else [None, None])
    assert [gauge.limit_ms for gauge in figures.gauges("SingleStream performance", stage().fields)] == [
        None,
        None,
    ]


def test_offline_tells_what_it_knows() -> None:
    one = Stage("Offline performance", 0.0, {"done": 0, "total": 100, "unit": "samples", "running": 100})
    told = text(one)
    assert "100 running  0 done" in told and "no answer yet" in told
    assert "TTFT" not in told and "limits" not in told


def test_a_plain_line_tells_the_same_figures() -> None:
    told = "  ".join(text for _, text in stage(search=SEARCH).details(151.0))
    for part in (
        "12 waiting  84 running",
        "TTFT p50 120  p99 1,612 ms (81% of 2,000 ms)",
        "TPOT p50 22.3  p99 26.2 ms (26% of 100 ms)",
        "GPU 690 W 1,540 MHz 67 C",
        "run 3 of 9",
        "probe 3 of at most 14",
        "ETA 7:40",
    ):
        assert part in told


@pytest.mark.parametrize("seconds", [20, 600, 900, 7200, 40_000])
@pytest.mark.parametrize("tells_eta", [True, False])
def test_on_a_pipe_a_run_takes_at_most_60_lines(
    seconds: int, tells_eta: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "TICK_S", 1000.0)
    stream, now = io.StringIO(), [0.0]
    shown = TerminalProgress(stream, {}, lambda: now[0])
    for second in range(seconds):
        now[0] = float(second)
        eta = {"eta_s": float(seconds - second)} if tells_eta else {}
        shown(event("Server performance", done=second, total=seconds, unit="samples", **eta))
    shown(event("Server performance", done=seconds, total=seconds, unit="samples"))
    shown.close()
    lines = stream.getvalue().splitlines()
    assert min(3, seconds) <= len(lines) <= MOST_LINES
    assert lines[-1].endswith("done")
    if tells_eta and seconds >= 600:
        assert len(lines) > 40


def event(stage: str, **fields: Any) -> Any:
    return {"time": "2026-11-23T12:00:00+00:00", "stage": stage, **fields}


def test_quiet_shows_nothing() -> None:
    stream = io.StringIO()
    shown = TerminalProgress(stream, {}, quiet=True)
    shown(event("Server performance", done=1, total=2))
    shown.close()
    assert stream.getvalue() == ""


def test_a_search_is_told_through_the_stages_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TICK_S", 1000.0)
    stream = io.StringIO()
    shown = TerminalProgress(stream, {})
    shown(event("Server probe", message="22.1 queries/s", search=SEARCH))
    shown(event("Server probe 03", done=1, total=500, unit="samples"))
    shown.close()
    assert "probe 3 of at most 14" in stream.getvalue().splitlines()[2]


def test_a_slow_terminal_does_not_hold_up_the_run() -> None:
    begun, seen = threading.Event(), []

    class Slow:
        def __call__(self, one: Event) -> None:
            begun.set()
            time.sleep(0.02)
            seen.append(one["stage"])

        def close(self) -> None:
            seen.append("closed")

    aside = Aside(Slow())
    started = time.monotonic()
    for number in range(5):
        aside(event(str(number)))
    assert time.monotonic() - started < 0.02
    aside.close()
    assert seen == ["0", "1", "2", "3", "4", "closed"]


def test_drawing_the_screen_costs_little() -> None:
    """Of eight GPUs, on a terminal with colours."""

    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            raise OSError("no descriptor")

    live, one, seconds = LiveLine(Terminal(), {"COLUMNS": "80"}, CARDS, "x"), stage(gpus=8), []
    for _ in range(20):
        started = time.perf_counter()
        live.draw(one, 1.0)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.025


GOAL = Goal(2000.0, 100.0, 1, 13368, 600.0)


def test_a_search_says_which_run_comes_and_how_long_it_takes_at_most() -> None:
    begin = state((), Step("probe", 20.0), GOAL, 40.0)
    assert begin == {"number": 1, "most": 14, "kind": "probe", "qps": 20.0, "left_s": 14 * 40.0 + 6 * 600.0}
    history = (
        Probe("probe", 20.0, ttft_p99_ms=500.0, tpot_p99_ms=110.0),
        Probe("confirm", 18.0, loadgen_result="VALID", ttft_p99_ms=1000.0, tpot_p99_ms=90.0),
        Probe("confirm", 19.0, error="died"),
    )
    told = state(history, Step("confirm", 18.5), GOAL, 40.0)
    assert (told["kind"], told["number"], told["most"], told["best_qps"]) == ("full-length run", 3, 6, 18.0)
    assert (told["ttft_room_percent"], told["tpot_room_percent"]) == (50.0, 10.0)
    assert told["left_s"] == 13 * 40.0 + 4 * 600.0
