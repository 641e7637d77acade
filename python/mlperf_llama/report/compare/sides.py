"""What is compared: run folders of ours or submission trees of anyone's, in any mix, and repeats of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ... import rules
from ...records.files import JsonObject
from ...records.schema import NOT_JUDGED, Accuracy, Performance
from ..svg import Point

# The figures set side by side, with their unit and decimals.
FIGURES = {
    "samples_per_second": ("samples/s", 2),
    "tokens_per_second": ("tokens/s", 1),
    "ttft_p99_ms": ("TTFT p99 ms", 1),
    "tpot_p99_ms": ("TPOT p99 ms", 2),
    "latency_p90_ms": ("latency p90 ms", 1),
    "samples_processed": ("samples", 0),
    "total_time_seconds": ("seconds", 1),
    **{key: (key, 4) for key in rules.ROUGE_KEYS},
    "gen_len": ("gen_len", 0),
}
# Facts that two results must share to say anything about each other's speed.
SAME = {
    "benchmark": "They are different benchmarks.",
    "model": "They ran different models.",
    "dataset": "They ran on different data.",
    "samples": "They ran on different numbers of samples.",
}


@dataclass(frozen=True)
class Measured:
    """What one scenario measured. `requested_qps`: the rate that LoadGen was told to send, which is a result
    in no scenario. `tuned`: the highest load that a tuning confirmed. `rates`: throughput over seconds."""

    performance: Performance | None = None
    accuracy: Accuracy | None = None
    requested_qps: float | None = None
    tuned: float | None = None
    rates: tuple[Point, ...] = ()
    detail: Mapping[str, object] = field(default_factory=dict)

    @property
    def validity(self) -> str | None:
        return self.performance.validity if self.performance else None

    def figure(self, key: str) -> float | None:
        """One of FIGURES; None where it was not measured or does not apply."""
        for part in (self.performance, self.accuracy):
            value: float | None = getattr(part, key, None)
            if value is not None:
                return value
        return None


@dataclass
class Side:
    """One result: what each scenario measured, and facts that may differ."""

    name: str
    scenarios: dict[str, Measured] = field(default_factory=dict)
    facts: JsonObject = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Group:
    """One of the two that are compared: a result and its repeats. `letter`: A or B, as sentences call it."""

    letter: str
    sides: tuple[Side, ...]

    @property
    def first(self) -> Side:
        return self.sides[0]

    @property
    def name(self) -> str:
        """The first result's name, and how many repeats there are."""
        more = len(self.sides) - 1
        return f"{self.first.name}{f' and {more} more' if more else ''}"

    @property
    def title(self) -> str:
        return f"{self.letter}: {self.name}"

    def measured(self, scenario: str) -> list[Measured]:
        """A scenario's measurements, one per repeat that has it."""
        return [side.scenarios[scenario] for side in self.sides if scenario in side.scenarios]


def notes(a: Group, b: Group) -> list[str]:
    """What has to be known about the results, each once, and whose it is."""
    texts = dict.fromkeys(note for group in (a, b) for side in group.sides for note in side.notes)
    return [f"{_holders(a, b, text)}: {text}" for text in texts]


def _holders(a: Group, b: Group, note: str) -> str:
    """A and B where each of their results has it, else the results' names."""
    whole = [group.letter for group in (a, b) if all(note in side.notes for side in group.sides)]
    others = [
        side.name
        for group in (a, b)
        if group.letter not in whole
        for side in group.sides
        if note in side.notes
    ]
    return " and ".join([*whole, *others])


def differing(a: Side, b: Side) -> dict[str, tuple[object, object]]:
    """The facts that are not the same in both, by name; None where one has it not."""
    both = {key: (a.facts.get(key), b.facts.get(key)) for key in (*a.facts, *b.facts)}
    return {key: (first, second) for key, (first, second) in both.items() if first != second}


def differ(a: Side, b: Side, key: str) -> bool:
    first, second = a.facts.get(key), b.facts.get(key)
    return first is not None and second is not None and first != second


def not_comparable(a: Side, b: Side) -> list[str]:
    """Why the figures say nothing about each other; empty where they do."""
    reasons = [text for key, text in SAME.items() if differ(a, b, key)]
    shared = [name for name in a.scenarios if name in b.scenarios]
    if not shared:
        reasons.append("They have no scenario in common.")
    for side in (a, b):
        for name in shared:
            validity = side.scenarios[name].validity
            if validity == NOT_JUDGED:
                reasons.append(f"{side.name}: {name} is not judged: too few queries.")
            elif validity != "VALID" and side.scenarios[name].tuned is None:
                reasons.append(f"{side.name}: LoadGen says {validity or 'nothing'} of {name}.")
    return reasons
