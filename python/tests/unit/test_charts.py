"""The charts: scales, thinning, and SVG that any XML reader takes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from mlperf_llama.report import bars, gpu_curves, plot, svg
from mlperf_llama.report.events import TimedEvent, last_run


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 97, (0, 20, 40, 60, 80, 100)),
        (0, 0.07, (0, 0.02, 0.04, 0.06, 0.08)),
        (0, 0, (0, 0.2, 0.4, 0.6, 0.8, 1)),
    ],
)
def test_ticks_are_round_and_cover_the_data(low: float, high: float, ticks: tuple[float, ...]) -> None:
    assert svg.axis(low, high, 0, 100).ticks == pytest.approx(ticks)


def test_a_scale_maps_its_ends() -> None:
    scale = svg.axis(0, 100, 200, 0)
    assert (scale(0), scale(50), scale(100)) == (200, 100, 0)


def test_thinning_keeps_the_dip_and_the_peak() -> None:
    points = [(float(n), 50.0) for n in range(10_000)]
    points[4321], points[7777] = (4321.0, 1.0), (7777.0, 99.0)
    thin = svg.thin(points)
    assert len(thin) <= 310 and (4321.0, 1.0) in thin and (7777.0, 99.0) in thin
    assert thin == sorted(thin)
    assert svg.thin(points[:10]) == points[:10]


def test_a_line_chart_is_well_formed_and_draws_the_data() -> None:
    series = [plot.Series("", [(0, 0), (5, 50), (10, 100)])]
    drawn = plot.plot(series, "<tokens> & more/s", 'a "title" <b>')
    charts = [e for e in ET.fromstring(drawn).iter() if e.tag == "svg"]
    for canvas, chart in zip((svg.WIDE, svg.NARROW), charts, strict=True):
        assert chart.get("aria-label") == 'a "title" <b>'
        assert chart.get("class") == f"chart {canvas.kind}"
        (line,) = [e for e in chart.iter() if str(e.get("class")).startswith("series")]
        x = [float(p.split(",")[0]) for p in str(line.get("points")).split()]
        y = [float(p.split(",")[1]) for p in str(line.get("points")).split()]
        left, right = canvas.x_range
        assert x == pytest.approx([left, (left + right) / 2, right], abs=0.1)
        assert y == pytest.approx([canvas.floor, (canvas.floor + canvas.top) / 2, canvas.top], abs=0.1)


def test_curves_have_a_legend_and_their_limits() -> None:
    series = [plot.Series("<a>", [(0, 1), (9, 2)]), plot.Series("b", [(0, 3), (9, 4)])]
    lines = {"limit": plot.Line(5, "limit 5 ms"), "limit_of_x": plot.Line(8, "limit 8 s")}
    root = ET.fromstring(plot.plot(series, "ms", "words", **lines))
    keys = [e.text for e in root.iter() if str(e.get("class")).startswith("key")]
    assert keys == ["<a>", "b"]
    for chart in root.iter("svg"):
        across, up = [e for e in chart.iter("line") if e.get("class") == "limit"]
        assert across.get("y1") == across.get("y2") and up.get("x1") == up.get("x2")
        low, high, start, end = map(float, str(chart.get("data-x")).split())
        assert float(str(up.get("x1"))) == pytest.approx(start + 8 / (high - low) * (end - start), abs=0.1)


def test_many_curves_share_the_points_of_one() -> None:
    points = [(float(n), float(n % 7)) for n in range(5000)]
    alone = len(plot.plot([plot.Series("", points)], "W", ""))
    eight = len(plot.plot([plot.Series(f"GPU {n}", points) for n in range(8)], "W", ""))
    assert eight < 2 * alone < 60_000


def test_a_histogram_draws_every_bin() -> None:
    root = ET.fromstring(bars.histogram([3, 0, 5], [0, 10, 20, 30], "tokens", "lengths"))
    for chart in root.iter("svg"):
        titles = [e.findtext("title") for e in chart.iter("rect")]
        assert titles == ["0 to 10 tokens: 3", "10 to 20 tokens: 0", "20 to 30 tokens: 5"]


@pytest.mark.parametrize(("p99", "over"), [(1999.0, 0), (2001.0, 1)])
def test_only_a_99th_percentile_over_its_limit_is_marked(p99: float, over: int) -> None:
    drawn = bars.percentile_chart([("p50", 300), ("p99", p99), ("p99.9", 2500)], 2000, "ms", "latency")
    kinds = [e.get("class") for e in ET.fromstring(drawn).iter("rect")]
    # For a wide page and for a phone.
    assert len(kinds) == 2 * 3 and kinds.count("bar over") == 2 * over
    assert "limit of the 99th: 2000 ms" in drawn


def test_each_gpu_has_its_curve_and_what_was_not_read_is_left_out() -> None:
    events = [
        TimedEvent(10.0, {"gpu": [{"index": 0, "power_w": 300}, {"index": 1, "power_w": 310.5}]}),
        TimedEvent(11.0, {}),
        TimedEvent(12.0, {"gpu": [{"index": 0, "power_w": None}]}),
        TimedEvent(14.0, {"gpu": [{"index": 0, "power_w": 290}]}),
    ]
    first, second = gpu_curves.series(events, "power_w")
    assert (first.name, first.points) == ("GPU 0", [(0.0, 300), (4.0, 290)])
    assert (second.name, second.points) == ("GPU 1", [(0.0, 310.5)])


def readings(members: int, gpus: int, seconds: int = 20) -> list[TimedEvent]:
    """GPU g of member m draws 100 m + g watts, and a watt more every second."""
    every = [(m, g) for m in range(members) for g in range(gpus)]
    events = []
    for t in range(seconds):
        gpu = [{"index": g, "member": m, "power_w": 100 * m + g + t} for m, g in every]
        events.append(TimedEvent(float(t), {"gpu": gpu}))
    return events


def test_members_on_other_hosts_have_gpus_of_the_same_number() -> None:
    series = gpu_curves.series(readings(members=2, gpus=2), "power_w")
    assert [s.name for s in series] == [f"member {m}, GPU {g}" for m in (0, 1) for g in (0, 1)]
    assert [s.points[0] for s in series] == [(0, 0), (0, 1), (0, 100), (0, 101)]


def test_of_many_gpus_the_spread_is_drawn() -> None:
    low, middle, high = gpu_curves.series(readings(members=8, gpus=8), "power_w")
    assert (low.name, middle.name, high.name) == (
        "lowest of 64 GPUs",
        "median of 64 GPUs",
        "highest of 64 GPUs",
    )
    assert low.points[-1][1] == 19 and high.points[-1][1] == 707 + 19
    assert low.points[-1][1] < middle.points[-1][1] < high.points[-1][1]


def test_only_the_last_run_of_a_stage_is_drawn() -> None:
    counts = [None, 0, 5, 9, None, 0, 7]
    events = [TimedEvent(float(n), {} if c is None else {"done": c}) for n, c in enumerate(counts)]
    assert [e.at_s for e in last_run(events)] == [5.0, 6.0]
    assert last_run(events[2:4]) == events[2:4]


def test_axis_labels() -> None:
    assert [svg.label(v) for v in (0, 0.02, 250, 4000, 20000, 4_000_000)] == [
        "0",
        "0.02",
        "250",
        "4000",
        "20k",
        "4M",
    ]
    assert [svg.clock(s) for s in (0, 2.5, 90, 5400)] == ["0 s", "2.5 s", "1:30", "1.5 h"]
