"""This machine among the published results, per device; what is no MLPerf result is called so."""

from __future__ import annotations

import math

from .. import rules
from . import published
from .blocks import Bar, Bars, Block, Text, number
from .published import Published
from .run import Run

# More devices than these would push the rest of the answer off the first screen.
MOST = 8
LABEL = "this run: not an MLPerf result"


def blocks(run: Run) -> list[Block]:
    """Bars for every scenario that was measured, or why there are none."""
    reason = not_comparable(run)
    if reason:
        return [Text(f"Not set beside published results: {reason}")]
    measured = [name for name, scenario in run.scenarios.items() if scenario.performance]
    return [block for name in measured for block in _scenario(run, name)]


def not_comparable(run: Run) -> str | None:
    """Why the speed says nothing beside others', whatever it is called; None where it does."""
    if run.engine.name == "fake":
        return "the engine is the fake one."
    if not published.has_the_shape(run.provenance.model):
        return "the model has not the shape of Llama-3.1-8B."
    return None if run.gpus_used else "no GPU was recorded to divide the throughput by."


def _scenario(run: Run, name: str) -> list[Block]:
    performance = run.scenarios[name].performance
    every = published.best_of_each_device(published.comparable(rules.benchmark_name(run.category), name))
    if performance is None or performance.samples_per_second <= 0:
        return []
    if not every:
        return [Text(f"{name}: no throughput was published for it.")]
    rate = performance.samples_per_second / run.gpus_used
    reasons = published.why_not(run, name)
    mine = Bar(
        LABEL if reasons else "this run", f"{run.gpus_used} x {run.gpus[0].name}", rate, _tokens(rate), True
    )
    shown = [*(_bar(one) for one in nearest(every, rate)), mine]
    note = (
        "Tokens/s of one device: samples/s x 128, the one fair unit. The best published result of each "
        f"device; {len(shown) - 1} of {len(every)} are shown, the fastest and the nearest to this run."
    )
    if reasons:
        note += f" This run is not an MLPerf result and not verified by MLCommons: {' '.join(reasons)}"
    ordered = tuple(sorted(shown, key=lambda bar: -bar.value))
    heads = ("device", "submitter, round, software", "tokens/s")
    return [Bars(f"Among published results, {name}", heads, ordered, note)]


def nearest(results: list[Published], rate: float) -> list[Published]:
    """The fastest, and those whose rate is nearest to this one by ratio."""

    def distance(result: Published) -> float:
        return abs(math.log((result.per_device or 1.0) / rate))

    return [results[0], *sorted(results[1:], key=distance)[: MOST - 1]]


def _bar(result: Published) -> Bar:
    rate = result.per_device or 0.0
    who = result.submitter or ("not submitted" if result.division == "unsubmitted" else "published")
    about = ", ".join(part for part in (who, result.round, result.framework) if part)
    return Bar(result.device, about, rate, _tokens(rate))


def _tokens(rate: float) -> str:
    return number(rate * rules.MAX_NEW_TOKENS, 0)
