"""Which run folders make a submission, and whether its division may take them.

closed: every check of every folder. open: a complete, valid run of a real engine; the
model, the data and the accuracy may be its own. `selftest` packs the fake engine's runs,
for tests of the packing alone, and nobody else may.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import rules, verdict
from ..config import Config
from ..errors import InvalidError, UsageError
from ..records.run_folder import RunFolder
from ..records.schema import Check, LoadedEngine, Provided, Seal
from ..records.source import source_sha256
from ..verdict import endpoint, evidence
from ..verdict.check import check, equal
from ..verdict.eligibility import missing_scenarios
from ..verdict.evidence import Evidence, ScenarioEvidence
from . import together

CLOSED, OPEN, SELFTEST = "closed", "open", "selftest"
# Whole runs: what the open division may do its own way.
OPEN_RUN = (
    "dataset_source", "dataset_eligible", "model_source", "model_eligible", "calibration_eligible",
    "scenarios", "speculative_decoding", "prompt_length", "required", "source", "engine_arguments",
    "engine_resolved", "engine_extension", "variables", "packages", "commit", "gpu",
)  # fmt: skip
# Scenarios: the ends of checks' names. TEST06 is not required, other models end otherwise, and only the
# closed division asks for the whole set in Offline's query.
OPEN_SCENARIO = (
    *(f"accuracy.{key}" for key in (*rules.ROUGE_KEYS, "gen_len", "endings", "ceiling")),
    "samples_per_query",
)
# The fake engine has no settings to compare.
SELFTEST_RUN = ("engine", "weights", "prefix_caching", "speculative_decoding", "prompt_length", "preset")
SELFTEST_SCENARIO = ("same_settings",)

# Checks by the name of the run folder they are about, and `TOGETHER` for all folders.
Checks = dict[str, list[Check]]
TOGETHER = "together"


@dataclass(frozen=True)
class SelectedRun:
    """One run folder that a division takes, with what its evidence holds for certain."""

    evidence: Evidence
    config: Config

    @property
    def folder(self) -> RunFolder:
        return self.evidence.run

    @property
    def scenarios(self) -> tuple[ScenarioEvidence, ...]:
        return self.evidence.scenarios

    @property
    def engine(self) -> LoadedEngine:
        return _engine(self.evidence)

    def settings_of(self, scenario: ScenarioEvidence) -> dict[str, object]:
        """The engine's settings in a scenario's performance run."""
        return (scenario.recorded.engine_settings or {}).get("performance") or self.engine.settings

    @property
    def model(self) -> Provided:
        return _model(self.evidence)

    @property
    def dataset(self) -> Provided:
        return _dataset(self.evidence)


@dataclass(frozen=True)
class Selection:
    """The run folders of one submission, and their checks."""

    runs: tuple[SelectedRun, ...]
    checks: Checks
    division: str

    @property
    def scenarios(self) -> dict[str, SelectedRun]:
        """Scenario -> the run that it comes from."""
        return {scenario.name: run for run in self.runs for scenario in run.scenarios}

    @property
    def first(self) -> SelectedRun:
        return self.runs[0]


def select(paths: Sequence[Path], division: str, submitter: str, round_name: str, category: str) -> Selection:
    """Judge the folders; InvalidError with every reason where the division refuses them."""
    folders = tuple(evidence.read(RunFolder.open(path)) for path in paths)
    _refuse_repeated_scenarios(folders)
    checks = {e.run.path.name: verdict.examine(e.run) for e in folders}
    if len(folders) > 1:
        # Several folders together hold what one need not: `required` looks at all of them.
        checks = {name: [c for c in own if c.name != "scenarios"] for name, own in checks.items()}
    checks[TOGETHER] = _joint_checks(folders, round_name, category)
    _refuse(folders, checks, division, submitter)
    # Where config.json cannot be read, the check `records` has failed.
    runs = tuple(SelectedRun(e, e.config) for e in folders if e.config is not None)
    return Selection(runs, checks, division)


def _refuse_repeated_scenarios(folders: Sequence[Evidence]) -> None:
    folder_of: dict[str, str] = {}
    for folder in folders:
        for scenario in folder.scenarios:
            if scenario.name in folder_of:
                raise UsageError(
                    f"expected each scenario in one run folder, found {scenario.name} in "
                    f"{folder_of[scenario.name]} and {folder.run.path.name}"
                )
            folder_of[scenario.name] = folder.run.path.name


def _refuse(folders: Sequence[Evidence], checks: Checks, division: str, submitter: str) -> None:
    engines = {_engine(e).name for e in folders} | {e.config.engine for e in folders if e.config}
    if "fake" in engines and submitter != SELFTEST:
        raise InvalidError(
            f"expected a run of a real engine, found the fake one; only the submitter {SELFTEST} packs that"
        )
    if any(e.config and e.config.endpoints for e in folders):
        raise InvalidError(
            f"expected runs of an engine that is loaded here, found the {endpoint.NOT_A_RESULT}: "
            f"{endpoint.FIX_WEIGHTS}"
        )
    if submitter.lower() == SELFTEST and division == CLOSED:
        raise InvalidError(f"SUBMITTER={SELFTEST} packs trees for tests, in the open division only")
    failed = failures(checks, division, submitter)
    if failed:
        lines = "".join(f"\n  {name}: {c.name}: {c.detail}. {c.fix}" for name, c in failed)
        raise InvalidError(f"expected runs that the {division} division takes, found:{lines}")


def failures(checks: Mapping[str, Sequence[Check]], division: str, submitter: str) -> list[tuple[str, Check]]:
    """The failed checks that count for this division, each with its run folder."""
    return [
        (name, c)
        for name, own in checks.items()
        for c in own
        if c.passed is not True and not exempt(c.name, division, submitter)
    ]


def exempt(name: str, division: str, submitter: str) -> bool:
    """Whether a division does without a check. The closed one does without none."""
    if division != OPEN:
        return False
    selftest = submitter == SELFTEST
    whole = {*OPEN_RUN, *(SELFTEST_RUN if selftest else ())}
    ends = {*OPEN_SCENARIO, *(SELFTEST_SCENARIO if selftest else ())}
    scenario, _, rest = name.partition(".")
    if scenario not in rules.SCENARIOS:
        return name in whole
    return rest in ends or rest.startswith(("compliance", "test06."))


def _engine(folder: Evidence) -> LoadedEngine:
    return folder.results.engine or LoadedEngine()


def _model(folder: Evidence) -> Provided:
    return folder.provenance.model or Provided()


def _dataset(folder: Evidence) -> Provided:
    return folder.provenance.dataset or Provided()


def _joint_checks(folders: Sequence[Evidence], round_name: str, category: str) -> list[Check]:
    """What all folders must hold together."""
    rounds, categories = {e.round for e in folders}, {e.category for e in folders}
    return [
        _same("one_model", [_model(e).sha256 for e in folders]),
        _same("one_dataset", [_dataset(e).sha256 for e in folders]),
        together.one_engine(folders),
        together.one_machine(folders),
        _required(folders, category),
        equal("requested_round", rounds, {round_name}, f"run with ROUND={round_name}"),
        equal("requested_category", categories, {category}, f"run with CATEGORY={category}"),
        _source(folders),
    ]


def _same(name: str, values: Sequence[object]) -> Check:
    count = len({str(value) for value in values})
    detail, fix = (
        f"{count} in {len(values)} run folders",
        "pack runs of one model, dataset, engine and machine",
    )
    return check(name, count == 1, detail, fix)


def _required(folders: Sequence[Evidence], category: str) -> Check:
    complete = {name for e in folders for name in e.complete_scenarios}
    missing = missing_scenarios(category, complete)
    return check(
        "required",
        not missing,
        f"{category} has {', '.join(sorted(complete)) or 'none'}"
        + (f", lacks {', '.join(missing)}" if missing else ""),
        "run the missing scenarios, then pack the run folders together",
    )


def _source(folders: Sequence[Evidence]) -> Check:
    """The source that is packed must be the source that ran."""
    now = source_sha256()
    stages = [e.run.read_or_new(Seal).stages for e in folders]
    used = {str(s.source) for own in stages for s in own if s.stage == "run"}
    used |= {str(None) for own in stages if not own}
    return check(
        "source",
        used == {now},
        f"ran with {', '.join(u[:12] for u in sorted(used))}, here {now[:12]}",
        "check out the commit in system.json and pack again",
    )
