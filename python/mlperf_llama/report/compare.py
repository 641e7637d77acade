"""Two results side by side: run folders of ours or submission trees of anyone's, in any mix.

Says first whether the two can be compared, and why not; then the figures with their
ratio; then every recorded fact that differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .. import rules
from ..config import Config
from ..errors import PipelineError, UsageError
from ..loadgen import logs
from ..records import codec
from ..records.files import JsonObject, read_object
from ..records.run_folder import RunFolder
from ..records.schema import NOT_JUDGED, Accuracy, Performance, Provided
from ..score import accuracy_text
from . import markdown, run
from .blocks import NOTHING, Banner, Block, Document, Section, Table, Text, number, word

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
    """What one scenario measured."""

    performance: Performance | None = None
    accuracy: Accuracy | None = None

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
    """One of the two: what each scenario measured, and facts that may differ."""

    name: str
    scenarios: dict[str, Measured] = field(default_factory=dict)
    facts: JsonObject = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _facts(prefix: str, values: Mapping[str, object]) -> JsonObject:
    """The values that are no objects and not empty, under names of their own."""
    return {f"{prefix}{k}": v for k, v in values.items() if not isinstance(v, dict) and v not in (None, "")}


def _identity(provided: Provided | None) -> str | None:
    """What a model or dataset is, by its hash where there is one."""
    if provided is None:
        return None
    return provided.sha256 or provided.revision or provided.source


def read_run(path: Path) -> Side:
    """A run folder of ours."""
    ours = run.read(RunFolder.open(path))
    provenance, system, engine = ours.provenance, ours.system, ours.engine
    first = ours.gpus[0] if ours.gpus else None
    facts = {
        "benchmark": rules.benchmark_name(ours.category),
        "round": ours.round,
        "model": _identity(provenance.model),
        "dataset": _identity(provenance.dataset),
        "samples": provenance.samples,
        "duration_s": provenance.duration_s,
        "engine": f"{engine.name} {engine.version}",
        "GPUs in use": ours.gpus_used,
        "GPU": first.name if first else None,
        "driver": first.driver if first else None,
        "CPU": system.cpu.model,
        "commit": system.git.get("commit"),
        **_facts("setting ", codec.to_json(ours.config) if ours.config else {}),
        **_facts("engine setting ", engine.settings),
        **_facts("package ", system.packages),
    }
    measured = {
        name: Measured(scenario.performance, scenario.accuracy)
        for name, scenario in ours.scenarios.items()
        if scenario.performance or scenario.accuracy
    }
    name = ours.path.name
    return Side(name, measured, facts, [f"{name}: {reason}" for reason in ours.not_eligible()])


def _accuracy(folder: Path) -> Accuracy:
    """The scores of a submission's accuracy.txt."""
    scores, _ = accuracy_text.read(folder / "accuracy" / accuracy_text.NAME)
    return codec.from_json(Accuracy, scores)


def read_tree(path: Path) -> Side:
    """A submission tree (or a part of one, from a system's results down to one scenario)."""
    details = sorted(path.glob(f"**/performance/run_1/{logs.DETAIL}"))
    benchmarks = {detail.parents[3] for detail in details}
    side = Side(path.name)
    for detail in details:
        folder, benchmark = detail.parents[2], detail.parents[3]
        scenario = next((s for s in rules.SCENARIOS if s.lower() == folder.name.lower()), folder.name)
        system = f"{benchmark.parent.name}/{benchmark.name}"
        name = scenario if len(benchmarks) == 1 else f"{system} {scenario}"
        try:
            performance = logs.performance(detail.parent, scenario)
            side.scenarios[name] = Measured(performance, _accuracy(folder))
        except (PipelineError, KeyError) as error:
            side.notes.append(f"{name}: {error}")
    if len(benchmarks) == 1:
        benchmark = next(iter(benchmarks))
        side.name, side.facts = benchmark.parent.name, _tree_facts(benchmark)
    return side


def _tree_facts(benchmark: Path) -> JsonObject:
    """Facts of one system's benchmark folder: its name, and the system file where the tree has it."""
    facts: JsonObject = {
        "benchmark": benchmark.name.replace("llama3_1", "llama3.1"),
        "system": benchmark.parent.name,
    }
    for above in benchmark.parents:
        system = above / "systems" / f"{benchmark.parent.name}.json"
        if system.is_file():
            return {**facts, **_facts("system ", read_object(system))}
    return facts


def read(path: Path) -> Side:
    """Whatever lies at `path`; UsageError where it is no result."""
    path = path.expanduser().resolve()
    if (path / Config.FILE).is_file():
        return read_run(path)
    side = read_tree(path) if path.is_dir() else Side(path.name)
    if not side.scenarios:
        reason = f": {side.notes[0]}" if side.notes else ""
        raise UsageError(
            f"{path}: expected a run folder or a submission tree with results, found none{reason}"
        )
    return side


def not_comparable(a: Side, b: Side) -> list[str]:
    """Why the figures say nothing about each other; empty where they do."""
    reasons = [
        text
        for key, text in SAME.items()
        if a.facts.get(key) is not None and b.facts.get(key) is not None and a.facts[key] != b.facts[key]
    ]
    shared = [name for name in a.scenarios if name in b.scenarios]
    if not shared:
        reasons.append("They have no scenario in common.")
    for side in (a, b):
        for name in shared:
            validity = side.scenarios[name].validity
            if validity == NOT_JUDGED:
                reasons.append(f"{side.name}: {name} is not judged: too few queries.")
            elif validity != "VALID":
                reasons.append(f"{side.name}: LoadGen says {validity or 'nothing'} of {name}.")
    return reasons


def _ratio(first: float | None, second: float | None) -> str:
    return f"{second / first:.3f}" if first and second is not None else NOTHING


def _figures(a: Side, b: Side) -> list[Block]:
    blocks: list[Block] = []
    for name in dict.fromkeys([*a.scenarios, *b.scenarios]):
        in_a, in_b = a.scenarios.get(name), b.scenarios.get(name)
        if in_a is None or in_b is None:
            blocks.append(Text(f"{name} was run by {a.name if in_b is None else b.name} alone."))
            continue
        rows = [("LoadGen says", word(in_a.validity), word(in_b.validity), NOTHING)]
        for key, (unit, digits) in FIGURES.items():
            first, second = in_a.figure(key), in_b.figure(key)
            if first is not None or second is not None:
                rows.append((unit, number(first, digits), number(second, digits), _ratio(first, second)))
        blocks.append(Table(("", a.name, b.name, "B / A"), tuple(rows), "lrrr", name))
    return blocks


def _differences(a: Side, b: Side) -> Table:
    rows = tuple(
        (key, word(a.facts.get(key)), word(b.facts.get(key)))
        for key in dict.fromkeys([*a.facts, *b.facts])
        if a.facts.get(key) != b.facts.get(key)
    )
    note = "A dash: not recorded there."
    return Table(("fact", a.name, b.name), rows, "lll", "What differs", note)


def compare(first: Path, second: Path) -> str:
    """The comparison as Markdown, for stdout."""
    a, b = read(first), read(second)
    if a.name == b.name:
        a.name, b.name = f"A {a.name}", f"B {b.name}"
    reasons = not_comparable(a, b)
    title = "Not comparable" if reasons else "Comparable"
    lines = (*reasons, *a.notes, *b.notes)
    banner = Banner(title, lines, "bad" if reasons else ("warn" if lines else "good"))
    section = Section("Side by side", (*_figures(a, b), _differences(a, b)))
    return markdown.render(Document("Comparison", f"A: {a.name} · B: {b.name}", banner, "", (section,)))
