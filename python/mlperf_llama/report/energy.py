"""The report of the energy that each performance run took, and of what its tokens cost."""

from __future__ import annotations

from ..machine.energy import COUNTER
from ..records.schema import Energy, Performance
from .blocks import Block, Section, Table, Text, number, time
from .run import Run

METHODS = {True: "NVML's energy counter", False: "the integral of NVML's power readings"}
NOT_MLPERF_POWER = (
    "What the GPUs report of themselves, from the first query to the last answer. This is not MLPerf Power, "
    "which measures the whole system at the wall: host, fans and power supplies are not in it."
)


def section(run: Run, price_per_hour: float | None = None) -> tuple[Section, ...]:
    """One section where energy was measured or a price is set; empty without. `price_per_hour`: in place of
    the one that the run was made with."""
    measured = {
        name: scenario.performance for name, scenario in run.scenarios.items() if scenario.performance
    }
    blocks: list[Block] = []
    rows = tuple(_row(name, p, p.energy) for name, p in measured.items() if p.energy)
    if rows:
        heads = ("scenario", "J per token", "J per sample", "mean W", "peak W", "energy", "GPUs", "time")
        blocks += [Table(heads, rows, "lrrrrrrr", "Energy of the performance runs"), Text(NOT_MLPERF_POWER)]
        blocks += [Text(how(name, p.energy)) for name, p in measured.items() if p.energy]
    price = price_per_hour or (run.config.price_per_hour if run.config else None)
    if price is not None:
        blocks += [Text(_cost(name, p, price)) for name, p in measured.items() if p.tokens_per_second > 0]
    return (Section("Energy and cost", tuple(blocks)),) if blocks else ()


def per_token(performance: Performance, energy: Energy) -> float | None:
    """Joules per answer token; the tokens as this package counted them, else as LoadGen's rate says."""
    driven = performance.driven
    tokens = driven.tokens if driven else performance.tokens_per_second * performance.total_time_seconds
    return energy.joules / tokens if tokens else None


def _row(name: str, performance: Performance, energy: Energy) -> tuple[str, ...]:
    samples = performance.driven.samples if performance.driven else performance.samples_processed
    return (
        name,
        number(per_token(performance, energy), 3),
        number(energy.joules / samples if samples else None, 1),
        number(energy.mean_w, 0),
        number(energy.peak_w, 0),
        f"{number(energy.joules / 1000, 1)} kJ",
        str(energy.gpus),
        time(energy.seconds),
    )


def how(name: str, energy: Energy) -> str:
    """The method and its rate."""
    method = METHODS[energy.method == COUNTER]
    every = number(energy.interval_s, 1)
    return f"{name}: by {method}, read every {every} s; peak W is the highest sum of the power readings."


def _cost(name: str, performance: Performance, price: float) -> str:
    cost = cost_per_million(performance.tokens_per_second, price)
    return (
        f"{name}: {number(cost, 3)} per million answer tokens, at {price:g} per hour of this machine "
        f"(PRICE_PER_HOUR) and {number(performance.tokens_per_second, 0)} tokens/s."
    )


def cost_per_million(tokens_per_second: float, price_per_hour: float) -> float:
    return price_per_hour / (tokens_per_second * 3600) * 1e6
