"""Published MLPerf results of this benchmark, and where a run stands among them.

The unit is samples/s of one device times 128: some submissions count 129 tokens a
sample (text that was tokenised again), so their printed tokens/s do not compare.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .. import rules
from .record import Record, mapping


@dataclass(frozen=True)
class Published:
    """One result of published.json, of a whole system; `devices` counts CPUs where `kind` is cpu."""

    round: str | None
    division: str
    benchmark: str
    scenario: str
    submitter: str | None
    system: str | None
    device: str
    kind: str
    devices: int
    framework: str
    samples_per_second: float | None
    tokens_per_second: float | None
    ttft_p99_ms: float | None
    tpot_p99_ms: float | None
    latency_p90_ms: float | None
    source: str

    @property
    def per_device(self) -> float | None:
        """Samples/s of one device."""
        return None if self.samples_per_second is None else self.samples_per_second / self.devices


def load() -> tuple[Published, ...]:
    data = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
    names = [f.name for f in fields(Published)]
    return tuple(Published(**{name: row[name] for name in names}) for row in data["results"])


def comparable(benchmark: str, scenario: str) -> list[Published]:
    """Submitted closed results with a throughput, the fastest device first; the earlier private
    run of this benchmark stands among them, marked by its division."""
    found = [
        p
        for p in load()
        if p.benchmark == benchmark and p.scenario == scenario and p.division != "open" and p.per_device
    ]
    return sorted(found, key=lambda p: p.per_device or 0, reverse=True)


def best_of_each_device(rows: list[Published]) -> list[Published]:
    """The fastest result of every device, in order."""
    seen: dict[str, Published] = {}
    for row in rows:
        seen.setdefault(row.device, row)
    return list(seen.values())


def has_the_shape(model: dict[str, Any]) -> bool:
    """Is this Llama-3.1-8B by its provenance: the eligible model, or one whose config.json agrees?"""
    return model.get("eligible") is True or mapping(model.get("details")).get("same_shape") is True


def why_not(record: Record, scenario: str) -> list[str]:
    """Why the run cannot stand beside published results; empty where it can."""
    reasons = record.not_eligible()
    performance = mapping(record.scenarios.get(scenario, {}).get("performance"))
    if not has_the_shape(mapping(record.provenance.get("model"))) and not any("model" in r for r in reasons):
        reasons.append("The model has not the shape of Llama-3.1-8B.")
    if performance.get("loadgen_result") != "VALID":
        reasons.append("LoadGen did not call the performance run VALID.")
    full = rules.SAMPLE_COUNT.get(record.category, 0)
    processed = performance.get("samples_processed")
    if performance and isinstance(processed, int) and processed < full:
        reasons.append(f"It processed {processed} samples, fewer than one pass of {full}.")
    if not isinstance(performance.get("samples_per_second"), int | float):
        reasons.append("It measured no throughput.")
    elif not record.gpus_used:
        reasons.append("No GPU was recorded to divide the throughput by.")
    return list(dict.fromkeys(reasons))
