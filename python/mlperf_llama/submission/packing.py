"""Packs run folders into a submission tree, complete or not at all."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .. import rules
from ..config import Config
from ..errors import InvalidError, UsageError
from ..records import codec
from ..records.files import write_text
from ..records.schema import Provided
from ..verdict import accuracy, test06
from ..verdict.evidence import Evidence, ScenarioEvidence
from . import description, documents, rescoring, source_tree, summary_files, truncation
from .layout import Layout
from .rescoring import Rescore
from .selection import CLOSED, OPEN, SELFTEST, Selection, engine_of, select

Json = dict[str, Any]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
LOGS = ("mlperf_log_summary.txt", "mlperf_log_detail.txt")


@dataclass(frozen=True)
class Package:
    """Everything that goes into one tree."""

    selection: Selection
    layout: Layout
    system: Json
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
        _score_again(selection, rescore)
    label = {CLOSED: "submittable", OPEN: "open"}[config.division]
    home = results_dir / (SELFTEST if config.submitter == SELFTEST else label)
    home.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    staging = Path(tempfile.mkdtemp(dir=home, prefix=".packing-"))
    try:
        package = _package(selection, config, staging)
        _write(package)
        staging.chmod(0o755)
        target = _free(home / f"{stamp}-{config.round}")
        staging.rename(target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    summary_files.write(home, target, package.selection, package.layout, package.system, package.notes)
    return target


def check_submitter(name: str) -> None:
    """UsageError where `name` cannot be a submitter's folder."""
    if not NAME.match(name):
        raise UsageError(
            f"SUBMITTER: expected your organisation's name (letters, digits, . _ -), found {name!r}"
        )


def _free(path: Path) -> Path:
    count, found = 1, path
    while found.exists():
        count += 1
        found = path.with_name(f"{path.name}-{count}")
    return found


def _score_again(selection: Selection, rescore: Rescore) -> None:
    wrong = []
    for scenario, found in selection.scenarios.items():
        some = rescoring.checks(found.run, scenario, rescore)
        selection.checks["together"] += some
        wrong += [f"{c.name}: {c.detail}. {c.fix}" for c in some if not c.passed]
    if wrong:
        raise InvalidError(
            "expected the scores of the run folder to be made again, found: " + "; ".join(wrong)
        )


def _package(selection: Selection, config: Config, root: Path) -> Package:
    given = description.read_toml(Path(config.system_file))
    engine = codec.to_json(selection.engine)
    values = description.describe(codec.to_json(selection.first.system), engine, given)
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
    system = description.system_id(values, engine, given)
    benchmark = _benchmark(selection)
    layout = Layout(root, config.round, config.division, config.submitter, system, benchmark)
    return Package(selection, layout, values, notes)


def _benchmark(selection: Selection) -> str:
    """The benchmark's folder: its official name, or the model's own in the open division."""
    official = rules.benchmark_name(selection.first.category)
    model = selection.first.provenance.model or Provided()
    if selection.division == CLOSED or model.eligible is True:
        return official
    name = re.sub(r"[^a-z0-9.-]+", "-", Path(model.path or "model").name.lower()).strip("-.")
    return f"{official}-{name or 'model'}"


def _notes(selection: Selection, submitter: str) -> tuple[str, ...]:
    """What a reader must know first: that it is a self-test, or how it differs from the closed rules."""
    notes = [documents.WATERMARK] if submitter == SELFTEST else []
    if selection.division == OPEN:
        notes.append("Open division.")
        provenance = selection.first.provenance
        for kind, served in (("model", provenance.model), ("dataset", provenance.dataset)):
            served = served or Provided()
            if served.eligible is not True:
                reason = served.reason or "not the official one"
                notes.append(f"Not the official {kind}: {served.source} ({reason.rstrip('.')}).")
    return tuple(notes)


def _write(package: Package) -> None:
    layout, selection = package.layout, package.selection
    for found in selection.evidence:
        for one in found.scenarios:
            _scenario(package, found, one)
    for folder in (layout.systems, layout.documentation, layout.source):
        folder.mkdir(parents=True, exist_ok=True)
    _json(layout.system_json, package.system)
    settings = selection.engine.settings
    model = codec.to_json(selection.first.provenance.model) or {}
    write_text(
        layout.documentation / "calibration.md", documents.calibration(settings, model, package.selftest)
    )
    write_text(layout.documentation / "compliance_validation.log", documents.validation_log(selection.checks))
    source_tree.copy(layout.source / layout.benchmark)
    if layout.division == OPEN:
        official = rules.benchmark_name(selection.first.category)
        _json(layout.home / "model_mapping.json", {layout.benchmark: official})


def _scenario(package: Package, found: Evidence, one: ScenarioEvidence) -> None:
    """Logs, scores, TEST06, measurements and README of one scenario."""
    layout = package.layout
    performance, scored = layout.performance(one.name), layout.accuracy(one.name)
    measured = layout.measurements(one.name)
    for folder in (performance, scored, measured):
        folder.mkdir(parents=True, exist_ok=True)
    _copy_logs(one.performance.path, performance)
    _copy_logs(one.accuracy.path, scored)
    truncation.write(one.accuracy.path / accuracy.LOG, one.accuracy.path / accuracy.TEXT, scored)
    if one.compliance.detail is not None:
        _test06(one, layout.test06(one.name))
    shutil.copy2(_user_conf(one), measured / "user.conf")
    settings = engine_of(found).settings
    model = codec.to_json(found.provenance.model) or {}
    _json(layout.measurements_json(one.name), documents.measurements(settings, model, package.selftest))
    text = documents.readme(
        layout.benchmark,
        one.name,
        codec.to_json(found.config),
        codec.to_json(found.provenance),
        settings,
        package.notes,
    )
    write_text(measured / "README.md", text)


def _copy_logs(source: Path, target: Path) -> None:
    for name in LOGS:
        shutil.copy2(source / name, target / name)


def _user_conf(one: ScenarioEvidence) -> Path:
    """user.conf as LoadGen really read it for the performance run."""
    beside, above = one.performance.path / "user.conf", one.folder / "user.conf"
    return beside if beside.is_file() else above


def _test06(one: ScenarioEvidence, target: Path) -> None:
    log = one.compliance.path / test06.LOG
    for folder in (target / "accuracy", target / "performance" / "run_1"):
        folder.mkdir(parents=True, exist_ok=True)
    _copy_logs(one.compliance.path, target / "performance" / "run_1")
    shutil.copy2(log, target / "accuracy" / log.name)
    write_text(target / test06.TEXT, test06.verify(log, one.name).text())


def _json(path: Path, data: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
