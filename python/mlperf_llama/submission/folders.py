"""The folders of a tree: which hold our benchmarks, and which no checker can make sense of.

MLCommons' checker takes every folder under `results` for a system, every one under a system for a benchmark,
and every one under a benchmark for a scenario; at what is none of these it stops with a traceback. Scenarios'
names it compares in lower case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import rules
from ..errors import MissingError, UsageError
from ..loadgen import logs
from ..records.files import JsonObject, read_object
from ..records.schema import Check
from ..verdict.check import check
from ..verdict.evidence import read_mode
from .layout import Layout
from .selection import CLOSED, OPEN

DIVISIONS = (CLOSED, OPEN)
# MLCommons has a third one; its rules are not here.
NETWORK = "network"
BENCHMARKS = {
    "llama3.1-8b": rules.DATACENTER,
    "llama3_1-8b": rules.DATACENTER,
    "llama3.1-8b-edge": rules.EDGE,
    "llama3_1-8b-edge": rules.EDGE,
}
MAPPING = "model_mapping.json"
SCENARIOS = {name.lower(): name for name in rules.SCENARIOS}
# checker: SCENARIO_MAPPING.
OF_ANY_BENCHMARK = (*SCENARIOS, "multistream")
# checker: system_type_check.
SYSTEM_TYPES = (rules.DATACENTER, rules.EDGE, "datacenter,edge", "edge,datacenter")
FIX = "take out what is no part of a submission, or give it the name that it should have"


@dataclass(frozen=True)
class Benchmark:
    """One system's benchmark of ours, with its category."""

    layout: Layout
    category: str


def subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def layouts(root: Path, submitter: str | None = None) -> Iterator[Benchmark]:
    """Each system's benchmark in the tree that is one of ours."""
    for division, home in submitters(root, submitter):
        mapping = _mapping(home, division)
        for benchmark in (b for system in subfolders(home / "results") for b in subfolders(system)):
            if category := _category(benchmark.name, mapping):
                spelled = {SCENARIOS[p.name.lower()]: p.name for p in _scenarios(benchmark)}
                place = (division, home.name, benchmark.parent.name, benchmark.name)
                yield Benchmark(Layout(root, _round(benchmark), *place, spelled), category)


def submitters(root: Path, submitter: str | None) -> Iterator[tuple[str, Path]]:
    """Division and folder of each submitter, or of the one that is named."""
    for division in DIVISIONS:
        for home in subfolders(root / division):
            if submitter in (None, home.name):
                yield division, home


def checks(root: Path, submitter: str | None = None) -> list[Check]:
    """Failed checks alone, each with the folder in its name: what is sound says nothing here."""
    return [*_divisions(root), *(c for place in submitters(root, submitter) for c in _submitter(*place))]


def _failed(name: str, detail: str) -> Check:
    return Check(f"{name}/folder", False, detail, FIX)


def _divisions(root: Path) -> Iterator[Check]:
    for folder in subfolders(root):
        if folder.name in DIVISIONS or not any((home / "results").is_dir() for home in subfolders(folder)):
            continue
        if folder.name == NETWORK:
            yield _failed(folder.name, "the network division, which only MLCommons' checker judges")
        elif folder.name.lower() in (*DIVISIONS, NETWORK):
            yield _failed(folder.name, f"no checker looks there: a division is named {folder.name.lower()}")


def _submitter(division: str, home: Path) -> Iterator[Check]:
    place = f"{division}/{home.name}"
    if not (home / "results").is_dir():
        yield _failed(place, "no folder results in it: it is no submitter's")
    if (home / MAPPING).exists() and division == OPEN and (fault := _unreadable(home / MAPPING)):
        yield _failed(place, fault)
    for system in subfolders(home / "results"):
        yield from _system(f"{place}/{system.name}", division, home, system)


def _system(place: str, division: str, home: Path, system: Path) -> Iterator[Check]:
    description = home / "systems" / f"{system.name}.json"
    if fault := _unreadable(description):
        yield _failed(place, f"it is no system: {fault}")
        return
    benchmarks = subfolders(system)
    if not benchmarks:
        yield _failed(place, "an empty system: no benchmark in it")
    kind = read_object(description).get("system_type")
    if benchmarks and kind not in SYSTEM_TYPES:
        yield _failed(place, f"system_type {kind}, expected one of {'; '.join(SYSTEM_TYPES)}")
    mapping = _mapping(home, division)
    for benchmark in benchmarks:
        if fault := _benchmark_fault(benchmark, mapping):
            yield _failed(f"{place}/{benchmark.name}", fault)


def _benchmark_fault(benchmark: Path, mapping: Mapping[str, object]) -> str:
    """Why a folder is neither our benchmark nor another one; empty where it is."""
    if _category(benchmark.name, mapping):
        return ""
    name = benchmark.name.lower().replace("_", ".").replace("-", "")
    if "llama3.18b" in name or str(mapping.get(benchmark.name)) in BENCHMARKS:
        return (
            f"unknown benchmark, expected {' or '.join(BENCHMARKS)}, or an entry in {MAPPING} (open division)"
        )
    if not any(folder.name.lower() in OF_ANY_BENCHMARK for folder in subfolders(benchmark)):
        return "it is no benchmark: no folder of a scenario in it"
    return ""


def _category(name: str, mapping: Mapping[str, object]) -> str | None:
    """The benchmark's category. As in MLCommons' checker, official names come before the mapping, whose
    values must be official."""
    official = [rules.benchmark_name(category) for category in rules.SAMPLE_COUNT]
    mapped = str(mapping.get(name))
    return BENCHMARKS.get(name) or (BENCHMARKS[mapped] if mapped in official else None)


def _mapping(home: Path, division: str) -> JsonObject:
    path = home / MAPPING
    return {} if division != OPEN or not path.exists() or _unreadable(path) else read_object(path)


def _unreadable(path: Path) -> str:
    """Why a JSON object cannot be read; empty where it can."""
    try:
        read_object(path)
    except MissingError:
        return f"no {path.parent.name}/{path.name}"
    except UsageError as error:
        return str(error)
    return ""


def _scenarios(benchmark: Path) -> list[Path]:
    """Scenarios' folders; of two that differ in case alone the one with the official name comes last."""
    known = [p for p in subfolders(benchmark) if p.name.lower() in SCENARIOS]
    return sorted(known, key=lambda p: p.name in rules.SCENARIOS)


def scenario_folders(layout: Layout) -> Check:
    """Each folder is a scenario's, once, in a spelling that MLCommons' checker takes to the end."""
    folders = subfolders(layout.benchmark_folder)
    known = [p.name for p in folders if p.name.lower() in SCENARIOS]
    unknown = [p.name for p in folders if p.name.lower() not in SCENARIOS]
    folded = [SCENARIOS[name.lower()] for name in known]
    twice = sorted({name for name in folded if folded.count(name) > 1})
    odd = [name for name in known if name not in (name.lower(), SCENARIOS[name.lower()])]
    faults = [f"unknown scenario folder {name}, one of {', '.join(rules.SCENARIOS)}" for name in unknown] + [
        f"{name} twice" for name in twice
    ]
    faults += [f"{name} must be spelled {SCENARIOS[name.lower()]}" for name in odd]
    if not folders:
        faults = ["no scenario in it"]
    return check("scenario_folders", not faults, "; ".join(faults) or ", ".join(known), FIX)


def _round(benchmark: Path) -> str:
    """The round whose seeds the logs carry; "unknown" where no round's do."""
    for log in sorted(benchmark.glob(f"*/performance/run_1/{logs.DETAIL}")):
        seed = read_mode(log.parent).get("effective_qsl_rng_seed")
        for known in rules.ROUNDS.values():
            if seed == known.qsl_rng_seed:
                return known.name
    return "unknown"
