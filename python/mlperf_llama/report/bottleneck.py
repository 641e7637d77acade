"""What limited a performance run, in one sentence, from its readings and its requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from .. import rules
from ..machine import roofline
from ..machine.gpu_table import find_gpu
from ..records.schema import Performance
from . import outcome, published
from .blocks import number
from .events import TimedEvent, by_stage, last_run
from .latency import Latencies
from .run import Run

# A p99 latency that reached this share of its limit leaves no room worth the name.
NEAR_LIMIT = 0.8
# A card that draws so much of its power limit, with its clock so far below the highest, is held back by it.
NEAR_POWER, LOWERED_CLOCK = 0.95, 0.97
# A GPU that is idle for more than this share, with requests waiting, waits for the CPU.
IDLE = 0.15
# The first and last readings are of the ramps.
RAMP = 0.1


@dataclass(frozen=True)
class Gpus:
    """Means over the steady part of a run and over its GPUs; None where it was not read. `binds`: what runs
    out first by the roofline."""

    power_w: float | None = None
    power_limit_w: float | None = None
    clock_mhz: float | None = None
    highest_clock_mhz: float | None = None
    utilisation: float | None = None
    binds: str | None = None


@dataclass(frozen=True)
class Load:
    """`running`: the most requests between first and last token at once; `waiting`: the mean before the first
    token. `seats`: sequences that the engine takes at once, all members together."""

    running: int | None = None
    waiting: float | None = None
    seats: int | None = None


def of(run: Run, scenario: str) -> str | None:
    """The sentence; None where the scenario has no performance run, or a script decided its speed."""
    performance = run.scenarios[scenario].performance
    if performance is None or run.engine.name == "fake":
        return None
    events = last_run(by_stage(run.events).get(f"{scenario} performance", []))
    latencies = run.latencies.get(scenario)
    return sentence(scenario, performance, _gpus(run, events), _load(run, latencies), bool(run.gpus))


def sentence(scenario: str, performance: Performance, gpus: Gpus, load: Load, on_gpu: bool) -> str:
    """First the limit that binds, then what the hardware did meanwhile."""
    begin = f"What limited {scenario}:"
    hardware = _power(gpus) or _seats(load) or _cpu(gpus, on_gpu)
    latency = _latency(scenario, performance)
    if latency:
        return f"{begin} {latency}{f'; behind it {hardware}' if hardware else ''}."
    if scenario in rules.TOKEN_LATENCY_LIMITS_MS:
        return f"{begin} the rate of the queries; neither TTFT nor TPOT came within 20% of its limit."
    if scenario == rules.SINGLE_STREAM:
        return f"{begin} one request at a time, as the scenario has it."
    return f"{begin} {hardware or _full(gpus)}."


def _latency(scenario: str, performance: Performance) -> str | None:
    """The latency that is nearest to its limit, where it is near."""
    nearest = outcome.nearest(outcome.token_latencies(scenario, performance))
    if nearest is None or nearest.value < NEAR_LIMIT * nearest.limit:
        return None
    value = number(nearest.value, 0 if nearest.value >= 100 else 1)
    return f"{nearest.name}, p99 {value} of {nearest.limit:g} ms"


def _power(gpus: Gpus) -> str | None:
    power_w, limit_w = gpus.power_w, gpus.power_limit_w
    if not power_w or not limit_w or not gpus.clock_mhz or not gpus.highest_clock_mhz:
        return None
    if power_w < NEAR_POWER * limit_w or gpus.clock_mhz > LOWERED_CLOCK * gpus.highest_clock_mhz:
        return None
    return f"power: clock {_clocks(gpus)} at {number(power_w, 0)} of {number(limit_w, 0)} W"


def _clocks(gpus: Gpus) -> str:
    return f"{number(gpus.clock_mhz, 0)} of {number(gpus.highest_clock_mhz, 0)} MHz"


def _seats(load: Load) -> str | None:
    if load.running is None or load.seats is None or load.waiting is None:
        return None
    if load.running < load.seats or load.waiting < 1:
        return None
    return f"all {number(load.seats)} sequences (MAX_NUM_SEQS) in use while {number(load.waiting, 0)} waited"


def _cpu(gpus: Gpus, on_gpu: bool) -> str | None:
    if not on_gpu:
        return "the CPU, on which the engine ran"
    if gpus.utilisation is None or gpus.utilisation > 1 - IDLE:
        return None
    return f"the CPU's launches and scheduling: the GPU was busy {100 * gpus.utilisation:.0f}% of the time"


def _full(gpus: Gpus) -> str:
    if gpus.utilisation is None:
        return "nothing that was recorded: the GPU's readings are missing"
    clock = f", at {_clocks(gpus)}" if gpus.clock_mhz and gpus.highest_clock_mhz else ""
    binds = f"{gpus.binds}, by the roofline" if gpus.binds else "arithmetic or memory bandwidth"
    return f"{binds}: the GPU was busy {100 * gpus.utilisation:.0f}% of the time{clock}"


def _gpus(run: Run, events: Sequence[TimedEvent]) -> Gpus:
    ramp = int(RAMP * len(events))
    readings = [one for timed in events[ramp : len(events) - ramp] for one in timed.event.get("gpu", [])]

    def mean(field: str) -> float | None:
        values = [value for one in readings if (value := one.get(field)) is not None]
        return fmean(values) if values else None

    used = mean("utilisation_percent")
    first = run.gpus[0] if run.gpus else None
    return Gpus(
        mean("power_w"),
        first.power_limit_w if first else None,
        mean("sm_clock_mhz"),
        first.max_sm_clock_mhz if first else None,
        None if used is None else used / 100,
        _binds(run),
    )


def _binds(run: Run) -> str | None:
    """By the card's data sheet; None where it or the precision is not known, or the model is another."""
    card = find_gpu(run.gpus[0]) if run.gpus else None
    precision = roofline.precision_of(run.engine_settings, card)
    if card is None or precision is None or not published.has_the_shape(run.provenance.model):
        return None
    limit = roofline.predict(card, roofline.PRECISIONS[precision])
    return limit.binds if limit else None


def _load(run: Run, latencies: Latencies | None) -> Load:
    seats = run.engine_settings.get("max_num_seqs")
    engines = len(run.provenance.members or ()) or 1
    total = seats * engines if isinstance(seats, int) else None
    if latencies is None or latencies.ttft_ms is None or not len(latencies.whole_ms):
        return Load(seats=total)
    requests = latencies.requests
    changes = np.repeat([1, -1], len(requests))
    order = np.argsort(np.concatenate([requests.first_token_s, requests.end_s]), kind="stable")
    most = int(np.cumsum(changes[order]).max())
    # By Little's law: what waited, over the time.
    waited_s = float(latencies.ttft_ms.sum()) / 1000
    return Load(most, waited_s / max(1e-9, float(requests.end_s.max())), total)
