"""Two results side by side: run folders of ours or submission trees of anyone's, in any mix.

Says first whether the two can be compared, and why not; then the figures with their
ratio; then every recorded fact that differs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import rules
from ..errors import PipelineError, UsageError
from ..loadgen import logs
from ..records.codec import to_json
from ..records.files import read_object
from ..records.run_folder import RunFolder
from . import markdown, record
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
SCORE = re.compile(r"'(rouge1|rouge2|rougeL|rougeLsum|gen_len)':\s*'?([\d.]+)")


@dataclass
class Side:
    """One of the two: figures by scenario, and facts that may differ."""

    name: str
    scenarios: dict[str, dict[str, Any]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _flat(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{k}": v for k, v in values.items() if not isinstance(v, dict) and v not in (None, "")}


def _identity(part: Mapping[str, Any]) -> str | None:
    """What a model or dataset is, by its hash where there is one."""
    return part.get("sha256") or part.get("revision") or part.get("source")


def read_run(path: Path) -> Side:
    """A run folder of ours."""
    found = record.read(RunFolder.open(path))
    side = Side(found.path.name)
    for name, parts in found.scenarios.items():
        performance, accuracy = (
            record.mapping(parts.get("performance")),
            record.mapping(parts.get("accuracy")),
        )
        if performance or accuracy:
            side.scenarios[name] = {**accuracy, **performance}
    model, dataset = (record.mapping(found.provenance.get(k)) for k in ("model", "dataset"))
    first = found.gpus[0] if found.gpus else {}
    side.facts = {
        "benchmark": rules.benchmark_name(found.category),
        "round": found.round,
        "model": _identity(model),
        "dataset": _identity(dataset),
        "samples": found.provenance.get("samples"),
        "duration_s": found.provenance.get("duration_s"),
        "engine": f"{found.engine.get('name')} {found.engine.get('version')}",
        "GPUs in use": found.gpus_used,
        "GPU": first.get("name"),
        "driver": first.get("driver"),
        "CPU": record.mapping(found.system.get("cpu")).get("model"),
        "commit": record.mapping(found.system.get("git")).get("commit"),
        **_flat("setting ", found.config),
        **_flat("engine setting ", record.mapping(found.engine.get("settings"))),
        **_flat("package ", record.mapping(found.system.get("packages"))),
    }
    side.notes = [f"{side.name}: {reason}" for reason in found.not_eligible()]
    return side


def _scores(folder: Path) -> dict[str, float]:
    """The scores of a submission's accuracy.txt."""
    path = folder / "accuracy" / "accuracy.txt"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return {key: float(value) for key, value in SCORE.findall(text)}


def read_tree(path: Path) -> Side:
    """A submission tree (or a part of one, from a system's results down to one scenario)."""
    details = sorted(path.glob(f"**/performance/run_1/{logs.DETAIL}"))
    places = {d.parents[3] for d in details}
    side = Side(path.name)
    for detail in details:
        folder, place = detail.parents[2], detail.parents[3]
        scenario = next((s for s in rules.SCENARIOS if s.lower() == folder.name.lower()), folder.name)
        name = scenario if len(places) == 1 else f"{place.parent.name}/{place.name} {scenario}"
        try:
            side.scenarios[name] = {**_scores(folder), **to_json(logs.performance(detail.parent, scenario))}
        except (PipelineError, KeyError) as error:
            side.notes.append(f"{name}: {error}")
    if len(places) == 1:
        place = next(iter(places))
        side.name, side.facts = place.parent.name, _tree_facts(place)
    return side


def _tree_facts(place: Path) -> dict[str, Any]:
    """Facts of one system's benchmark folder: its name, and the system file where the tree has it."""
    facts: dict[str, Any] = {
        "benchmark": place.name.replace("llama3_1", "llama3.1"),
        "system": place.parent.name,
    }
    for above in place.parents:
        system = above / "systems" / f"{place.parent.name}.json"
        if system.is_file():
            facts.update(_flat("system ", read_object(system)))
            break
    return facts


def read(path: Path) -> Side:
    """Whatever lies at `path`; UsageError where it is no result."""
    path = path.expanduser().resolve()
    if (path / "config.json").is_file():
        return read_run(path)
    side = read_tree(path) if path.is_dir() else Side(path.name)
    if not side.scenarios:
        reason = f": {side.notes[0]}" if side.notes else ""
        raise UsageError(
            f"{path}: expected a run folder or a submission tree with results, found none{reason}"
        )
    return side


def against(a: Side, b: Side) -> list[str]:
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
            said = side.scenarios[name].get("loadgen_result")
            if said != "VALID":
                reasons.append(f"{side.name}: LoadGen says {said or 'nothing'} of {name}.")
    return reasons


def _ratio(first: Any, second: Any) -> str:
    numbers = isinstance(first, int | float) and isinstance(second, int | float)
    return f"{second / first:.3f}" if numbers and first else NOTHING


def _figures(a: Side, b: Side) -> list[Block]:
    blocks: list[Block] = []
    for name in dict.fromkeys([*a.scenarios, *b.scenarios]):
        one, two = a.scenarios.get(name), b.scenarios.get(name)
        if one is None or two is None:
            blocks.append(Text(f"{name} was run by {a.name if two is None else b.name} alone."))
            continue
        rows = [("LoadGen says", word(one.get("loadgen_result")), word(two.get("loadgen_result")), NOTHING)]
        for key, (unit, digits) in FIGURES.items():
            first, second = one.get(key), two.get(key)
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
    reasons = against(a, b)
    title = "Not comparable" if reasons else "Comparable"
    lines = (*reasons, *a.notes, *b.notes)
    banner = Banner(title, lines, "bad" if reasons else ("warn" if lines else "good"))
    section = Section("Side by side", (*_figures(a, b), _differences(a, b)))
    return markdown.render(Document("Comparison", f"A: {a.name} · B: {b.name}", banner, "", (section,)))
