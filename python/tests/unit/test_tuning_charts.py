"""A search drawn: both limits, every load, LoadGen's verdicts, and the load that was kept."""

from __future__ import annotations

import re

from mlperf_llama.report import tuning, tuning_charts
from mlperf_llama.report.blocks import Chart
from mlperf_llama.tune.records import Probe, ScenarioTuning

LIMITS_MS = (2000.0, 100.0)


def probe(kind: str, qps: float, ttft_ms: float, tpot_ms: float, says: str = "VALID") -> Probe:
    return Probe(
        kind, qps, loadgen_result=says, ttft_p99_ms=ttft_ms, tpot_p99_ms=tpot_ms, samples_per_second=qps - 0.5
    )


SEARCH = ScenarioTuning(
    probes=(
        probe("probe", 58.0, 633.0, 87.1),
        probe("probe", 61.8, 2216.0, 92.6),
        Probe("probe", 99.0, error="crashed"),
        probe("confirm", 61.4, 9280.0, 91.7, "INVALID"),
        probe("confirm", 59.3, 709.0, 88.9),
    ),
    answer=59.3,
    minutes=18.0,
)


def test_both_latencies_by_load_beside_the_limit() -> None:
    chart = tuning_charts.charts("Server", SEARCH, LIMITS_MS)[0]
    assert chart.description.startswith("Server: TTFT and TPOT as shares of their limits, by load: TTFT p99")
    assert "of 2000 ms: 32% at 58/s, 35% at 59.3/s, 464% at 61.4/s, 111% at 61.8/s" in chart.description
    assert "TPOT p99 of 100 ms: 87% at 58/s" in chart.description
    assert chart.description.endswith("kept: 59.3/s.")
    assert 'class="limit"' in chart.svg and 'class="answer"' in chart.svg and ">kept: 59.3/s<" in chart.svg
    for kind in ("one", "two"):
        assert chart.svg.count(f'class="series {kind}" points=') == 2, "wide and narrow"


def test_confirmations_wear_loadgens_verdict() -> None:
    drawn = tuning_charts.charts("Server", SEARCH, LIMITS_MS)[0].svg
    kinds = re.findall(r'class="mark (\w+)"', drawn)
    assert sorted(kinds) == sorted(2 * ["bad", "good", "plain", "plain"]), "wide and narrow"
    assert "confirm at 61.4/s: 464% of the nearer limit, LoadGen says INVALID" in drawn


def test_the_throughput_is_drawn_against_what_was_sent() -> None:
    chart = tuning_charts.charts("Server", SEARCH, LIMITS_MS)[1]
    assert chart.description == (
        "Server: completed samples/s by load: "
        "57.50 at 58/s, 58.80 at 59.3/s, 60.90 at 61.4/s, 61.30 at 61.8/s."
    )


def test_one_load_makes_no_chart() -> None:
    search = ScenarioTuning(probes=SEARCH.probes and SEARCH.probes[:1])
    assert tuning_charts.charts("Server", search, LIMITS_MS) == []
    assert not any(isinstance(block, Chart) for block in tuning._scenario("Server", search))


def test_a_search_without_an_answer_has_no_line_for_it() -> None:
    search = ScenarioTuning(probes=SEARCH.probes, reason="every load was INVALID", minutes=3.0)
    assert 'class="answer"' not in tuning_charts.charts("Server", search, LIMITS_MS)[0].svg
