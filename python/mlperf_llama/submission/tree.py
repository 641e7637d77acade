"""Our own checks of a submission tree, ours or anybody's, for the Llama 3.1 8B benchmarks.

Each value comes from the logs in the tree. A check's name begins with what it is
about, `division/submitter/system/benchmark`, and goes on like the verdict's names.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .. import rules
from ..errors import UsageError
from ..loadgen import logs
from ..records.schema import Check
from ..score import accuracy_text
from ..verdict import accuracy, every_run, performance, test06
from ..verdict.check import check
from ..verdict.eligibility import missing_scenarios
from ..verdict.evidence import ModeLogs, ScenarioEvidence, read_mode
from . import folders, metadata
from .layout import Layout
from .selection import CLOSED, OPEN

REDO = "pack the run again"
# What MLCommons' checker looks for in verify_accuracy.txt: a line of each set.
TEST06_LINES = (
    {"First token check pass: True", "First token check pass: Skipped"},
    {"EOS check pass: True"},
    {"Sample length check pass: True"},
)


def examine(root: Path, submitter: str | None = None) -> list[Check]:
    """Every check of the tree; UsageError where it holds none of our benchmarks."""
    benchmarks = list(folders.layouts(root, submitter))
    if not benchmarks:
        raise UsageError(
            f"{root}: expected closed/ or open/ with results of {', '.join(benchmark_names())}, found none"
        )
    checks: list[Check] = []
    for benchmark in benchmarks:
        own = _benchmark(benchmark.layout, benchmark.category)
        checks += [replace(c, name=f"{_location(benchmark.layout)}/{c.name}") for c in own]
    return checks + folders.checks(root, submitter)


def benchmark_names() -> tuple[str, ...]:
    return tuple(rules.benchmark_name(category) for category in rules.SAMPLE_COUNT)


def _location(layout: Layout) -> str:
    return f"{layout.division}/{layout.submitter}/{layout.system}/{layout.benchmark}"


def _benchmark(layout: Layout, category: str) -> list[Check]:
    scenarios = [s for s in rules.SCENARIOS if layout.results(s).is_dir()]
    checks = [
        check(
            "round",
            layout.round in rules.ROUNDS,
            f"{layout.round} by the seeds in the logs; known: {', '.join(rules.ROUNDS)}",
            "run with the LoadGen of the round you submit to",
        ),
        *metadata.system(layout, category),
        check("source", layout.source.is_dir(), f"{layout.source.name}/ holds the source", REDO),
        folders.scenario_folders(layout),
        _scenarios(layout, scenarios, category),
    ]
    if layout.division == CLOSED:
        checks.append(metadata.calibration(layout))
        checks += [metadata.bandwidth(layout)] if category == rules.DATACENTER else []
    for scenario in scenarios:
        checks += _scenario(layout, category, scenario)
    return checks


def _scenarios(layout: Layout, scenarios: list[str], category: str) -> Check:
    """The closed division must hold those of the category, and neither division others."""
    missing = missing_scenarios(category, scenarios)
    if layout.division == OPEN:
        missing = [] if scenarios else ["any"]
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
    checks = [*metadata.measurements(layout, scenario), *metadata.power(layout, scenario)]
    for mode, log in (("performance", evidence.performance), ("accuracy", evidence.accuracy)):
        name = f"{scenario}.{mode}"
        checks.append(check(name, log.detail is not None, log.problem or "LoadGen's logs are there", REDO))
        if log.detail is not None:
            checks += [_release(c, layout.round, log) for c in every_run.checks(evidence, mode, log)]
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
    path = folder / accuracy_text.NAME
    scores, sha256 = accuracy_text.read(path)
    faults = accuracy_text.faults(path)
    checks = metadata.truncated_log(folder, prefix, sha256)
    if layout.division == CLOSED:
        checks += accuracy.targets(prefix, category, scores, faults)
    else:
        known = all(key in scores for key in rules.ROUGE_KEYS) and not faults
        words = "; ".join(f"{key} {fault}" for key, fault in faults.items())
        detail = words or f"{len(scores)} scores in {path.name}"
        checks.append(check(f"{prefix}.scores", known, detail, accuracy.FIX_TEXT))
    return checks


def _test06(layout: Layout, scenario: str) -> list[Check]:
    """The log itself is verified again; the text must not say more than it shows."""
    folder, name = layout.test06(scenario), f"{scenario}.test06"
    if layout.division == OPEN and not folder.is_dir():
        return []
    text_path = folder / test06.TEXT
    content = text_path.read_bytes() if text_path.is_file() else b""
    text = content.decode(errors="replace")
    lines = {line.strip() for line in text.splitlines()}
    claimed = all(lines & expected for expected in TEST06_LINES) and "\ufffd" not in text
    verification = test06.verify(folder / "accuracy" / logs.ACCURACY, scenario)
    faults = [
        verification.problem,
        *verification.first_token[:1],
        *verification.eos[:1],
        *verification.length[:1],
    ]
    counted = f"{verification.records} records, {test06.RECORDS} needed"
    detail = "; ".join(f for f in (counted, *faults) if f)
    # The open division needs no TEST06; one that is there must be what its text says.
    honest = layout.division == OPEN and not claimed
    return [
        check(
            f"{name}.text",
            claimed or layout.division == OPEN,
            f"{test06.TEXT}: {' / '.join(text.split(chr(10)))}",
            REDO,
        ),
        check(
            f"{name}.log",
            verification.passed or honest,
            detail,
            "run TEST06 again, and log the responses as 32-bit token ids, 128 at most",
        ),
    ]
