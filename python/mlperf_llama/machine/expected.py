"""What speed to expect of a card that was not measured: the share of its limit that known runs reached.

An engine does not reach the roofline. Known runs reached 0.41 to 0.57 of the limit without overlap of compute
and memory with vLLM's own kernels, and 0.62 to 0.68 with those of engine/hopper; known_runs.toml has their
sources.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from .. import rules
from . import roofline
from .gpu_table import GpuSpec, specs

TABLE = Path(__file__).with_name("known_runs.toml")
VLLM, HOPPER = "vllm", "hopper"
KERNELS = {VLLM: "vLLM's own kernels", HOPPER: "the kernels for Hopper"}


@dataclass(frozen=True)
class KnownRun:
    """One Offline run, in samples/s of one GPU, and its share of the limit without overlap."""

    card: str
    precision: str
    kernels: str
    samples_per_s: float
    source: str
    share: float


@dataclass(frozen=True)
class Expected:
    """Samples/s of one GPU in Offline. `limit`: without overlap, which no engine reaches. `source`: the runs
    that the range follows from; `measured`: it is what this very card reached at this precision."""

    low: float
    high: float
    limit: float
    measured: bool
    source: str

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2

    @property
    def words(self) -> str:
        """The range, or the figure, with its unit."""
        return f"{self.figures} samples/s"

    @property
    def figures(self) -> str:
        """The range without its unit; one figure where both ends are the same."""
        low, high = (f"{rate:.1f}" if rate < 10 else f"{rate:.0f}" for rate in (self.low, self.high))
        return low if low == high else f"{low} to {high}"


def kernels_of(settings: Mapping[str, object]) -> str:
    """Whose kernels an engine's settings choose: the worker extension brings those for Hopper."""
    return HOPPER if settings.get("worker_extension_cls") else VLLM


@lru_cache(maxsize=1)
def known_runs() -> tuple[KnownRun, ...]:
    """The runs of known_runs.toml."""
    cards = {spec.name: spec for spec in specs()}
    runs = []
    for entry in tomllib.loads(TABLE.read_text(encoding="utf-8"))["run"]:
        limit = roofline.predict(cards[entry["card"]], roofline.PRECISIONS[entry["precision"]])
        if limit is None:
            raise ValueError(f"{TABLE.name}: {entry['card']} has no {entry['precision']}")
        runs.append(KnownRun(**entry, share=entry["samples_per_s"] / limit.serial))
    return tuple(runs)


def offline(card: GpuSpec, precision: str, kernels: str) -> Expected | None:
    """What one card will reach in Offline; None where it lacks the precision or the memory."""
    limit = roofline.predict(card, roofline.PRECISIONS[precision])
    if limit is None:
        return None
    runs = [run for run in known_runs() if run.kernels == kernels]
    same = [run for run in runs if (run.card, run.precision) == (card.name, precision)]
    if same:
        rate = same[0].samples_per_s
        return Expected(rate, rate, limit.serial, True, f"measured on this card: {same[0].source}")
    shares = [run.share for run in runs]
    low, high = min(shares), max(shares)
    cards = ", ".join(dict.fromkeys(run.card for run in runs))
    source = f"{low:.2f} to {high:.2f} of the card's limit, as {KERNELS[kernels]} reached on {cards}"
    return Expected(low * limit.serial, high * limit.serial, limit.serial, False, source)


def load_shares(scenario: str, kernels: str) -> tuple[float, float]:
    """What part of its Offline speed a GPU keeps up as queries/s in Server or Interactive: the least and the
    most that known runs show."""
    shares = [
        entry["queries_per_s"] / entry["offline"]
        for entry in tomllib.loads(TABLE.read_text(encoding="utf-8"))["load"]
        if (entry["scenario"], entry["kernels"]) == (scenario, kernels)
    ]
    return min(shares), max(shares)


def under_load(card: GpuSpec, precision: str, kernels: str, scenario: str) -> Expected | None:
    """The queries/s that one card will keep up in Offline, Server or Interactive."""
    speed = offline(card, precision, kernels)
    if speed is None or scenario == rules.OFFLINE:
        return speed
    low, high = load_shares(scenario, kernels)
    return replace(speed, low=low * speed.low, high=high * speed.high, measured=False)


def single_stream_ms(card: GpuSpec, precision: str, kernels: str) -> float | None:
    """What one answer of SingleStream takes on one card, at the middle share of the limit."""
    alone = roofline.predict(card, roofline.PRECISIONS[precision], max_num_seqs=1)
    whole = offline(card, precision, kernels)
    if alone is None or whole is None:
        return None
    return 1000 * whole.limit / whole.middle / alone.serial
