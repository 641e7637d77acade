"""Packs run folders into a submission tree, complete or not at all."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import rules
from ..config import Config
from ..errors import InvalidError, UsageError
from ..loadgen import logs
from ..records.files import JsonObject, atomic_folder, write_text
from ..score import accuracy_text
from ..verdict import test06
from ..verdict.evidence import ScenarioEvidence
from . import (
    bandwidth,
    calibration,
    description,
    documents,
    overrides,
    proving,
    rescoring,
    source_tree,
    summary_files,
    truncation,
)
from .layout import Layout
from .proving import Prove
from .rescoring import Rescore
from .selection import CLOSED, OPEN, SELFTEST, TOGETHER, SelectedRun, Selection, select
from .summary_files import write_json

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
LOGS = (logs.SUMMARY, logs.DETAIL)


@dataclass(frozen=True)
class Package:
    """Everything that goes into one tree."""

    selection: Selection
    layout: Layout
    system: JsonObject
    notes: tuple[str, ...]

    @property
    def selftest(self) -> bool:
        return self.layout.submitter == SELFTEST


def pack(
    config: Config,
    env: Mapping[str, str],
    results_dir: Path,
    runs: Sequence[Path] | None = None,
    rescore: Rescore = rescoring.scores,
    prove: Prove = proving.checks,
) -> Path:
    """Pack `runs` (default: the latest) for config's round, category and division.

    Returns the tree's root: `results/submittable/...` for the closed division, `results/open/...`
    and `results/selftest/...` else. UsageError: something a person must write is missing;
    InvalidError: the division refuses these runs, with every reason.
    """
    check_submitter(config.submitter)
    paths = [Path(p) for p in runs or [(results_dir / "latest").resolve()]]
    selection = select(paths, config.division, config.submitter, config.round, config.category)
    if config.division == CLOSED:
        _network(selection, config.category)
        _prove_again(selection, env, prove)
        _score_again(selection, rescore)
    label = {CLOSED: "submittable", OPEN: "open"}[config.division]
    home = results_dir / (SELFTEST if config.submitter == SELFTEST else label)
    target = _free(home / f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{config.round}")
    with atomic_folder(target) as staging:
        package = _package(selection, config, staging)
        _write(package)
    summary_files.write(home, target, package.selection, package.layout, package.system, package.notes)
    return target


def check_submitter(name: str) -> None:
    """UsageError where `name` cannot be a submitter's folder."""
    if not NAME.match(name):
        raise UsageError(
            f"SUBMITTER: expected your organisation's name (letters, digits, . _ -), found {name!r}"
        )


def _free(path: Path) -> Path:
    count, free = 1, path
    while free.exists():
        count += 1
        free = path.with_name(f"{path.name}-{count}")
    return free


def _network(selection: Selection, category: str) -> None:
    """Datacenter systems must have the network for what they did."""
    if category == rules.DATACENTER:
        network = bandwidth.check_bandwidth(selection)
        selection.checks[TOGETHER].append(network)
        if not network.passed:
            raise InvalidError(
                f"expected a network for what was measured, found {network.detail}. {network.fix}"
            )


def _prove_again(selection: Selection, env: Mapping[str, str], prove: Prove) -> None:
    """The dataset and the weights, from their bytes as they are now."""
    checks = [c for run in selection.runs for c in prove(run, env)]
    selection.checks[TOGETHER] += checks
    failed = [f"{c.name}: {c.detail}. {c.fix}" for c in checks if not c.passed]
    if failed:
        raise InvalidError(
            "expected the official dataset, weights and calibration articles, found: " + "; ".join(failed)
        )


def _score_again(selection: Selection, rescore: Rescore) -> None:
    failed = []
    for scenario, run in selection.scenarios.items():
        checks = rescoring.checks(run.folder, scenario, rescore)
        selection.checks[TOGETHER] += checks
        failed += [f"{c.name}: {c.detail}. {c.fix}" for c in checks if not c.passed]
    if failed:
        raise InvalidError(
            "expected the scores of the run folder to be made again, found: " + "; ".join(failed)
        )


def _package(selection: Selection, config: Config, root: Path) -> Package:
    path, engine, system = Path(config.system_file), selection.first.engine, selection.first.evidence.system
    toml = description.read_toml(path)
    members = selection.first.evidence.provenance.members or ()
    stated = overrides.find(path, description.measured(system, engine, members), toml)
    values = description.with_overrides(description.describe(system, engine, toml, members), stated)
    values |= {"submitter": config.submitter, "division": config.division, "system_type": config.category}
    notes = _notes(selection, config.submitter)
    missing = description.missing(values)
    if missing and config.submitter == SELFTEST:
        values |= dict.fromkeys(missing, "not known (selftest)")
    elif missing:
        raise UsageError(
            f"{config.system_file}: expected values for {', '.join(missing)}, "
            "which this machine does not tell"
        )
    if config.submitter == SELFTEST or config.division == OPEN:
        values["sw_notes"] = " ".join([*notes, str(values["sw_notes"])]).strip()
    name = description.system_id(values, engine, toml)
    benchmark = _benchmark(selection)
    layout = Layout(root, config.round, config.division, config.submitter, name, benchmark)
    return Package(selection, layout, values, notes)


def _benchmark(selection: Selection) -> str:
    """The benchmark's folder: its official name, or the model's own in the open division."""
    official = rules.benchmark_name(selection.first.evidence.category)
    model = selection.first.model
    if selection.division == CLOSED or model.eligible is True:
        return official
    name = re.sub(r"[^a-z0-9.-]+", "-", Path(model.path or "model").name.lower()).strip("-.")
    return f"{official}-{name or 'model'}"


def _notes(selection: Selection, submitter: str) -> tuple[str, ...]:
    """What a reader must know first: that it is a self-test, or how it differs from the closed rules."""
    notes = [documents.WATERMARK] if submitter == SELFTEST else []
    if selection.division == OPEN:
        notes.append("Open division.")
        for kind, provided in (("model", selection.first.model), ("dataset", selection.first.dataset)):
            if provided.eligible is not True:
                reason = provided.reason or "not the official one"
                notes.append(f"Not the official {kind}: {provided.source} ({reason.rstrip('.')}).")
    return tuple(notes)


def _write(package: Package) -> None:
    layout, selection = package.layout, package.selection
    for run in selection.runs:
        for scenario in run.scenarios:
            _scenario(package, run, scenario)
    for folder in (layout.systems, layout.documentation, layout.source):
        folder.mkdir(parents=True, exist_ok=True)
    write_json(layout.system_json, package.system)
    first = selection.first
    calibration.write(selection, layout.documentation, package.selftest)
    if first.evidence.category == rules.DATACENTER:
        bandwidth.write(selection, package.system, layout.documentation, package.selftest)
    write_text(layout.documentation / "compliance_validation.log", documents.validation_log(selection.checks))
    source_tree.copy(layout.source / layout.benchmark)
    if layout.division == OPEN:
        official = rules.benchmark_name(first.evidence.category)
        write_json(layout.home / "model_mapping.json", {layout.benchmark: official})


def _scenario(package: Package, run: SelectedRun, scenario: ScenarioEvidence) -> None:
    """Logs, scores, TEST06, measurements and README of one scenario."""
    layout = package.layout
    performance, scored = layout.performance(scenario.name), layout.accuracy(scenario.name)
    measured = layout.measurements(scenario.name)
    for folder in (performance, scored, measured):
        folder.mkdir(parents=True, exist_ok=True)
    _copy_logs(scenario.performance.path, performance)
    _copy_logs(scenario.accuracy.path, scored)
    truncation.write(
        scenario.accuracy.path / logs.ACCURACY, scenario.accuracy.path / accuracy_text.NAME, scored
    )
    if scenario.compliance.detail is not None:
        _test06(scenario, layout.test06(scenario.name))
    shutil.copy2(_user_conf(scenario), measured / "user.conf")
    settings, provenance = run.settings_of(scenario), run.evidence.provenance
    write_json(
        layout.measurements_json(scenario.name),
        documents.measurements(settings, run.model, package.selftest),
    )
    readme = documents.readme(
        layout.benchmark, scenario.name, run.config, provenance, settings, package.notes
    )
    write_text(measured / "README.md", readme)


def _copy_logs(source: Path, target: Path) -> None:
    for name in LOGS:
        shutil.copy2(source / name, target / name)


def _user_conf(scenario: ScenarioEvidence) -> Path:
    """user.conf as LoadGen really read it for the performance run."""
    of_run, of_scenario = scenario.performance.path / "user.conf", scenario.folder / "user.conf"
    return of_run if of_run.is_file() else of_scenario


def _test06(scenario: ScenarioEvidence, target: Path) -> None:
    log = scenario.compliance.path / logs.ACCURACY
    for folder in (target / "accuracy", target / "performance" / "run_1"):
        folder.mkdir(parents=True, exist_ok=True)
    _copy_logs(scenario.compliance.path, target / "performance" / "run_1")
    shutil.copy2(log, target / "accuracy" / log.name)
    write_text(target / test06.TEXT, test06.verify(log, scenario.name).text())
