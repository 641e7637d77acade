"""The charts: scales, thinning, and SVG that any XML reader takes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from mlperf_llama.report import charts, svg
from mlperf_llama.report.events import TimedEvent


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
    drawn = svg.line_chart([(0, 0), (5, 50), (10, 100)], "<tokens> & more/s", 'a "title" <b>')
    root = ET.fromstring(drawn)
    assert root.get("aria-label") == 'a "title" <b>'
    (line,) = [e for e in root.iter() if e.get("class") == "series"]
    x = [float(p.split(",")[0]) for p in str(line.get("points")).split()]
    y = [float(p.split(",")[1]) for p in str(line.get("points")).split()]
    left, right, floor = svg.LEFT, svg.WIDTH - svg.RIGHT, svg.HEIGHT - svg.BOTTOM
    assert x == pytest.approx([left, (left + right) / 2, right], abs=0.1)
    assert y == pytest.approx([floor, (floor + svg.TOP) / 2, svg.TOP], abs=0.1)


@pytest.mark.parametrize(("p99", "over"), [(1999.0, 0), (2001.0, 1)])
def test_only_a_99th_percentile_over_its_limit_is_marked(p99: float, over: int) -> None:
    drawn = svg.percentile_chart([("p50", 300), ("p99", p99), ("p99.9", 2500)], 2000, "ms", "latency")
    bars = [e.get("class") for e in ET.fromstring(drawn).iter() if str(e.get("class")).startswith("bar")]
    assert len(bars) == 3 and bars.count("bar over") == over
    assert "limit of the 99th: 2000 ms" in drawn


def test_power_adds_the_gpus_and_skips_what_was_not_read() -> None:
    events = [
        TimedEvent(10.0, {"gpu": [{"power_w": 300}, {"power_w": 310.5}]}),
        TimedEvent(11.0, {}),
        TimedEvent(12.0, {"gpu": [{"power_w": None}]}),
        TimedEvent(14.0, {"gpu": [{"power_w": 290}]}),
    ]
    assert charts.power(events) == [(0.0, 610.5), (4.0, 290.0)]


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
