"""Checks a tree with MLCommons' checker and with ours, and reports both verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import rules
from ..config import Config
from ..errors import EXIT_INVALID, EXIT_MISSING, EXIT_OK, MissingError, PipelineError, UsageError
from ..loadgen import logs
from ..records import codec, seal
from ..records.files import digest, read_object
from ..records.run_folder import RunFolder
from ..records.schema import Check
from ..score import accuracy_text
from ..verdict import signature
from ..verdict.check import check as named
from ..verdict.check import equal, first
from . import folders, official, summary_files, tree
from .layout import Layout
from .summary_files import PackedScenario, PackedTree


@dataclass(frozen=True)
class Report:
    """Both verdicts on one tree. `official` maps a round to the official checker's outcome."""

    path: Path
    ours: tuple[Check, ...]
    official: dict[str, official.Outcome]
    official_missing: str

    @property
    def failed(self) -> list[Check]:
        return [c for c in self.ours if c.passed is not True]

    @property
    def accepted(self) -> bool:
        """Officially; False too where it could not be asked."""
        return bool(self.official) and all(o.accepted for o in self.official.values())

    @property
    def exit_code(self) -> int:
        """0 where both accept; 5 where one refuses; 3 where the official one is not here."""
        if self.failed or (self.official and not self.accepted):
            return EXIT_INVALID
        return EXIT_OK if self.official else EXIT_MISSING

    def text(self) -> str:
        return "\n".join([*_official_lines(self), *_our_lines(self)]) + "\n"


def check(path: Path, config: Config, env: Mapping[str, str], submitter: str | None = None) -> Report:
    """Check the tree at `path` (the folder with closed/ or open/ in it)."""
    if not path.is_dir():
        raise UsageError(f"SUBMISSION: expected a submission's folder, found {path}")
    ours = tree.examine(path, submitter)
    layouts = [benchmark.layout for benchmark in folders.layouts(path, submitter)]
    ours += _against_record(path, layouts)
    # Where no log tells the round, MLCommons' checker is asked about ROUND.
    rounds = sorted({layout.round for layout in layouts} & set(rules.ROUNDS)) or [config.round]
    outcomes, missing = {}, ""
    try:
        checkout = official.find(config)
        outcomes = {r: official.run(checkout, path, r, submitter, env) for r in rounds}
    except MissingError as error:
        missing = str(error)
    return Report(path, (*ours, *_unexplained(ours, outcomes)), outcomes, missing)


def _unexplained(ours: Sequence[Check], outcomes: Mapping[str, official.Outcome]) -> list[Check]:
    """A refusal of MLCommons' checker that no check here has named: it decides, so the tree does not pass."""
    if any(c.passed is not True for c in ours):
        return []
    return [
        Check(
            f"mlcommons/{name}",
            False,
            f"MLCommons' checker refuses, and no check here says why: {' '.join(outcome.complaints[:1])}",
            "read what it says above",
        )
        for name, outcome in outcomes.items()
        if not outcome.accepted
    ]


def _against_record(path: Path, layouts: list[Layout]) -> list[Check]:
    """A tree packed here has a record in the folder above: hashes and numbers must still be its own."""
    record = summary_files.record_path(path.absolute().parent, path)
    if not record.is_file():
        return []
    try:
        scenarios = codec.from_json(PackedTree, read_object(record)).scenarios
        checks = [c for layout in layouts for item in scenarios.items() for c in _scenario(layout, *item)]
        folders = {Path(packed.run_folder) for packed in scenarios.values()}
        return checks + [c for folder in sorted(folders) if folder.is_dir() for c in _signature(folder)]
    except (PipelineError, OSError, ValueError) as error:
        return [Check("record", False, f"{record.name}: {error}", "pack the run again")]


def _scenario(layout: Layout, scenario: str, packed: PackedScenario) -> list[Check]:
    again = "pack the run again"
    _, sha256 = accuracy_text.read(layout.accuracy(scenario) / accuracy_text.NAME)
    whole = Path(packed.full_accuracy_log)
    expected = digest(whole) if whole.is_file() else packed.full_accuracy_log_sha256
    derived = codec.to_json(logs.performance(layout.performance(scenario), scenario))
    recorded = codec.to_json(packed.performance) or {}
    mismatches = [f"{k} {recorded.get(k)}, log {v}" for k, v in derived.items() if recorded.get(k) != v]
    return [
        equal(f"record/{scenario}.accuracy.hash", sha256, expected, again),
        named(f"record/{scenario}.results", not mismatches, "; ".join(mismatches) or "as in the log", again),
    ]


def _signature(folder: Path) -> list[Check]:
    """Of the run folder that the tree was packed from: its hashes signed, and its files as they say."""
    run, name = RunFolder(folder), f"record/{folder.name}"
    signed = signature.checks(run, f"{name}.signature")
    if not signed:
        return []
    faults, again = seal.faults(run), "bring back the run folder as it was packed, or pack the run again"
    return [*signed, named(f"{name}.seal", not faults, first(faults) or "as it was sealed", again)]


def _official_lines(report: Report) -> list[str]:
    if report.official_missing:
        return [f"MLCommons' checker was not run: {report.official_missing}"]
    lines = []
    for name, outcome in report.official.items():
        lines.append(f"MLCommons' checker, {name}: {'accepts' if outcome.accepted else 'refuses'}")
        lines += [f"  {line}" for line in outcome.complaints[:20]]
    return lines


def _our_lines(report: Report) -> list[str]:
    failed = report.failed
    lines = [f"Our checks: {len(report.ours) - len(failed)} of {len(report.ours)} passed"]
    for c in failed:
        lines += [f"  {c.name}: {c.detail}", f"    to do: {c.fix}"]
    if failed and report.accepted:
        lines.append("Ours are stricter: MLCommons' checker does not look at what failed here.")
    return lines
