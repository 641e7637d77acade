"""Published MLPerf results of this benchmark, and where a run stands among them.

The unit is samples/s of one device times 128: some submissions count 129 tokens a
sample (text that was tokenised again), so their printed tokens/s do not compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .. import rules
from ..records import codec
from ..records.files import read_object
from ..records.schema import Provided
from .run import Run

FILE = Path(__file__).with_name("published.json")
REPOSITORY = "https://github.com/mlcommons/inference_results_{}"


@dataclass(frozen=True)
class Published:
    """What is used of one result of published.json, which is of a whole system; `devices` counts
    CPUs where it ran on CPUs. `tokens_per_sample` as logged: 129 is text that was tokenised again."""

    round: str | None
    division: str
    benchmark: str
    scenario: str
    submitter: str | None
    system: str | None
    device: str
    kind: str
    nodes: int
    devices: int
    framework: str
    weights: str | None
    samples_per_second: float | None
    tokens_per_sample: float | None
    source: str

    @property
    def link(self) -> str | None:
        """The result's folder in its round's repository; None where it was not submitted."""
        if self.round is None:
            return None
        folder = self.source.partition("/performance/")[0].replace(" ", "%20")
        return f"{REPOSITORY.format(self.round)}/tree/main/{folder}"

    @property
    def per_device(self) -> float | None:
        """Samples/s of one device."""
        return None if self.samples_per_second is None else self.samples_per_second / self.devices


@dataclass(frozen=True)
class _File:
    results: tuple[Published, ...]


@lru_cache(maxsize=1)
def load() -> tuple[Published, ...]:
    """Every result of the file, which benchmarks/published_results.py makes."""
    return codec.from_json(_File, read_object(FILE)).results


def comparable(benchmark: str, scenario: str) -> list[Published]:
    """Submitted closed results with a throughput, the fastest device first; the earlier private
    run of this benchmark stands among them, marked by its division."""
    results = [
        p
        for p in load()
        if p.benchmark == benchmark and p.scenario == scenario and p.division != "open" and p.per_device
    ]
    return sorted(results, key=lambda p: p.per_device or 0, reverse=True)


def best_of_each_device(results: list[Published]) -> list[Published]:
    """The fastest result of every device, in order."""
    fastest: dict[str, Published] = {}
    for result in results:
        fastest.setdefault(result.device, result)
    return list(fastest.values())


def has_the_shape(model: Provided | None) -> bool:
    """Is this Llama-3.1-8B by its provenance: the eligible model, or one whose config.json agrees?"""
    if model is None:
        return False
    return model.eligible is True or (model.details or {}).get("same_shape") is True


def why_not(run: Run, scenario: str) -> list[str]:
    """Why the run cannot stand beside published results; empty where it can."""
    reasons = run.not_eligible()
    performance = run.scenarios[scenario].performance
    if not has_the_shape(run.provenance.model) and not any("model" in r for r in reasons):
        reasons.append("The model has not the shape of Llama-3.1-8B.")
    if performance is None or performance.loadgen_result != "VALID":
        reasons.append("LoadGen did not call the performance run VALID.")
    full = rules.SAMPLE_COUNT.get(run.category, 0)
    if performance is None:
        reasons.append("It measured no throughput.")
    elif performance.samples_processed < full:
        processed = performance.samples_processed
        reasons.append(f"It processed {processed} samples, fewer than one pass of {full}.")
    if performance is not None and not run.gpus_used:
        reasons.append("No GPU was recorded to divide the throughput by.")
    return reasons
