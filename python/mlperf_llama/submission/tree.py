"""Our own checks of a submission tree, ours or anybody's, for the Llama 3.1 8B benchmarks.

Each value comes from the logs in the tree. A check's name begins with what it is
about, `division/submitter/system/benchmark`, and goes on like the verdict's names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from .. import rules
from ..errors import UsageError
from ..loadgen import logs
from ..records.files import object_or_empty
from ..records.schema import Check
from ..score import accuracy_text
from ..verdict import accuracy, performance, test06
from ..verdict.check import check
from ..verdict.evidence import ModeLogs, ScenarioEvidence, read_mode
from . import metadata
from .layout import Layout
from .selection import CLOSED, OPEN

DIVISIONS = (CLOSED, OPEN)
BENCHMARKS = {
    "llama3.1-8b": rules.DATACENTER,
    "llama3_1-8b": rules.DATACENTER,
    "llama3.1-8b-edge": rules.EDGE,
    "llama3_1-8b-edge": rules.EDGE,
}
REDO = "pack the run again"


def examine(root: Path, submitter: str | None = None) -> list[Check]:
    """Every check of the tree; UsageError where it holds none of our benchmarks."""
    found = list(layouts(root, submitter))
    if not found:
        raise UsageError(
            f"{root}: expected closed/ or open/ with results of {', '.join(benchmark_names())}, found none"
        )
    checks: list[Check] = []
    for layout, category in found:
        checks += [replace(c, name=f"{_location(layout)}/{c.name}") for c in _benchmark(layout, category)]
    return checks


def benchmark_names() -> tuple[str, ...]:
    return tuple(rules.benchmark_name(category) for category in rules.SAMPLE_COUNT)


def layouts(root: Path, submitter: str | None = None) -> Iterator[tuple[Layout, str]]:
    """Each system's benchmark in the tree, with its category."""
    for division in DIVISIONS:
        for home in _folders(root / division):
            if submitter in (None, home.name):
                yield from _of_submitter(root, division, home)


def _of_submitter(root: Path, division: str, home: Path) -> Iterator[tuple[Layout, str]]:
    mapping = object_or_empty(home / "model_mapping.json") if division == OPEN else {}
    for system in _folders(home / "results"):
        for benchmark in _folders(system):
            category = BENCHMARKS.get(str(mapping.get(benchmark.name, benchmark.name)))
            if category:
                yield (
                    Layout(root, _round(benchmark), division, home.name, system.name, benchmark.name),
                    category,
                )


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def _round(benchmark: Path) -> str:
    """The round whose seeds the logs carry; "unknown" where no round's do."""
    for log in sorted(benchmark.glob("*/performance/run_1/mlperf_log_detail.txt")):
        seed = read_mode(log.parent).get("effective_qsl_rng_seed")
        for known in rules.ROUNDS.values():
            if seed == known.qsl_rng_seed:
                return known.name
    return "unknown"


def _location(layout: Layout) -> str:
    return f"{layout.division}/{layout.submitter}/{layout.system}/{layout.benchmark}"


def _benchmark(layout: Layout, category: str) -> list[Check]:
    names = [p.name for p in _folders(layout.results(".").parent / layout.benchmark)]
    scenarios = [s for s in rules.SCENARIOS if s in names]
    checks = [
        check(
            "round",
            layout.round in rules.ROUNDS,
            f"{layout.round} by the seeds in the logs; known: {', '.join(rules.ROUNDS)}",
            "run with the LoadGen of the round you submit to",
        ),
        *metadata.system(layout, category),
        check("source", layout.source.is_dir(), f"{layout.source.name}/ holds the source", REDO),
    ]
    if layout.division == CLOSED:
        checks += [_required(scenarios, category), metadata.calibration(layout)]
    for scenario in scenarios:
        checks += _scenario(layout, category, scenario)
    return checks


def _required(scenarios: list[str], category: str) -> Check:
    missing = [" or ".join(n) for n in rules.REQUIRED_SCENARIOS[category] if not set(n) & set(scenarios)]
    foreign = [s for s in scenarios if s not in rules.CATEGORY_SCENARIOS[category]]
    return check(
        "scenarios",
        not missing and not foreign,
        f"{category}: {', '.join(scenarios)}; missing: {', '.join(missing) or 'none'}; "
        f"foreign: {', '.join(foreign) or 'none'}",
        "run the missing scenarios and pack them together",
    )


def _scenario(layout: Layout, category: str, scenario: str) -> list[Check]:
    evidence = ScenarioEvidence(
        scenario,
        category,
        layout.round,
        layout.results(scenario),
        performance=read_mode(layout.performance(scenario)),
        accuracy=read_mode(layout.accuracy(scenario)),
        compliance=ModeLogs(layout.test06(scenario) / "accuracy", None),
    )
    checks = metadata.measurements(layout, scenario)
    for mode, log in (("performance", evidence.performance), ("accuracy", evidence.accuracy)):
        name = f"{scenario}.{mode}"
        checks.append(check(name, log.detail is not None, log.problem or "LoadGen's logs are there", REDO))
        if log.detail is not None:
            checks += [_release(c, layout.round, log) for c in performance.common(evidence, mode, log)]
    if evidence.performance.detail is not None:
        closed_only = () if layout.division == CLOSED else (f"{scenario}.samples_per_query",)
        checks += [c for c in performance.checks(evidence) if c.name not in closed_only]
    checks += _accuracy(layout, category, scenario)
    if category == rules.DATACENTER or layout.test06(scenario).is_dir():
        checks += _test06(layout, scenario)
    return checks


def _release(exact: Check, round_name: str, log: ModeLogs) -> Check:
    """Others may have built LoadGen from any commit of the round's release: 5.1.0 is of v5.1."""
    known = rules.ROUNDS.get(round_name)
    if not exact.name.endswith(".loadgen_version") or known is None:
        return exact
    version = str(log.get("loadgen_version") or "")
    release = known.loadgen_version.rsplit(".", 1)[0] + "."
    detail = f"{version or 'not recorded'}, {round_name} uses {release}x"
    return check(exact.name, version.startswith(release), detail, "run with the round's own LoadGen")


def _accuracy(layout: Layout, category: str, scenario: str) -> list[Check]:
    folder = layout.accuracy(scenario)
    prefix = f"{scenario}.accuracy"
    scores, sha256 = accuracy_text.read(folder / accuracy_text.NAME)
    checks = metadata.truncated_log(folder, prefix, sha256)
    if layout.division == CLOSED:
        checks += accuracy.targets(prefix, category, scores)
    else:
        known = all(key in scores for key in rules.ROUGE_KEYS)
        checks.append(check(f"{prefix}.scores", known, f"{len(scores)} scores in accuracy.txt", REDO))
    return checks


def _test06(layout: Layout, scenario: str) -> list[Check]:
    """The log itself is verified again; the text must not say more than it shows."""
    folder, name = layout.test06(scenario), f"{scenario}.test06"
    if layout.division == OPEN and not folder.is_dir():
        return []
    text_path = folder / test06.TEXT
    text = text_path.read_text(encoding="utf-8", errors="replace") if text_path.is_file() else ""
    verification = test06.verify(folder / "accuracy" / logs.ACCURACY, scenario)
    claimed = "TEST06 verification complete" in text and "False" not in text
    faults = [
        verification.problem,
        *verification.first_token[:1],
        *verification.eos[:1],
        *verification.length[:1],
    ]
    counted = f"{verification.records} records, {test06.RECORDS} needed"
    detail = "; ".join(f for f in (counted, *faults) if f)
    required = layout.division == CLOSED
    return [
        check(
            f"{name}.text", claimed or not required, f"{test06.TEXT}: {' / '.join(text.split(chr(10)))}", REDO
        ),
        check(f"{name}.log", verification.passed or not required, detail, "run TEST06 again"),
    ]
