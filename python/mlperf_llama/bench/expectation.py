"""What a performance run is expected to reach, said before it starts, and by how much it was off."""

from __future__ import annotations

from collections.abc import Mapping

from .. import rules
from ..engine.preset import Preset
from ..engine.tuned import Tuned
from ..loadgen.plan import Plan
from ..records.schema import Expectation, Gpu, Performance
from . import planner, target_qps
from .warm_up import Speed

# A tuned load is that of the run where the two differ by no more.
SAME = 0.01
# Less than this is as expected: repeats differ by as much.
AS_EXPECTED = 0.01
# Beyond it a factor is told.
FAR = 2.0


def expect(
    planned: Plan, tuned: Tuned, speed: Speed, preset: Preset, gpu: Gpu | None, engines: int
) -> Expectation | None:
    """From what tuning measured, else from the rate that is asked for, else from known runs of such a card,
    else from the warm-up. `gpu`: of the official model's shape on it; None for another. `engines`: that share
    the work."""
    scenario = planned.scenario
    values = tuned.scenarios.get(scenario, {})
    if scenario == rules.SINGLE_STREAM:
        latency_ms = planned.expected_latency_ms
        source = "tuned" if values.get("expected_latency_ms") == latency_ms else "the expected latency"
        return Expectation(1000 / latency_ms, source) if latency_ms else None
    if scenario != rules.OFFLINE:
        return _at_rate(planned.target_qps, values)
    if known := tuned.target_qps(scenario, 0.0):
        return Expectation(target_qps.offline_speed_of(known), "tuned")
    card = planner.expected_speed(preset, gpu) if gpu else None
    if card is not None:
        return Expectation(engines * card.middle, card.source)
    return Expectation(speed.samples_per_s, "the warm-up")


def _at_rate(rate: float | None, values: Mapping[str, float]) -> Expectation | None:
    """Server and Interactive: the rate is given, tuning measured the latencies at its own."""
    if rate is None:
        return None
    tuned_rate = values.get("target_qps")
    if tuned_rate is None or abs(tuned_rate / rate - 1) > SAME:
        return Expectation(rate, "the rate that is asked for")
    return Expectation(rate, "tuned", values.get("ttft_p99_ms"), values.get("tpot_p99_ms"))


def before(expected: Expectation) -> str:
    """What is expected, and where that comes from."""
    parts = [f"{_number(expected.samples_per_second)} samples/s", *_latencies(expected)]
    return f"expected: {', '.join(parts)} ({expected.source})"


def _latencies(expected: Expectation) -> list[str]:
    pairs = (("TTFT", expected.ttft_p99_ms), ("TPOT", expected.tpot_p99_ms))
    return [f"{name} p99 {_number(value)} ms" for name, value in pairs if value is not None]


def after(measured: Performance) -> str:
    """By how much it was off; empty where nothing was expected."""
    expected = measured.expected
    if expected is None:
        return ""
    pairs = (
        ("samples/s", measured.samples_per_second, expected.samples_per_second),
        ("ms TTFT p99", measured.ttft_p99_ms, expected.ttft_p99_ms),
        ("ms TPOT p99", measured.tpot_p99_ms, expected.tpot_p99_ms),
    )
    texts = [
        f"{_number(value)} {unit}, {_off(value, known)}" for unit, value, known in pairs if value and known
    ]
    return f"measured {'; '.join(texts)} ({expected.source})" if texts else ""


def _off(value: float, expected: float) -> str:
    share = value / expected - 1
    if abs(share) < AS_EXPECTED:
        return f"as expected ({_number(expected)})"
    if share > FAR:
        return f"{value / expected:.0f} times the expected {_number(expected)}"
    return f"{abs(100 * share):.2g}% {'above' if share > 0 else 'below'} the expected {_number(expected)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
