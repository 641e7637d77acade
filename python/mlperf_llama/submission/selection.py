"""Which run folders make a submission, and whether its division may take them.

closed: every check of every folder. open: a complete, valid run of a real engine; the
model, the data and the accuracy may be its own. `selftest` packs the fake engine's runs,
for tests of the packing alone, and nobody else may.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import rules, verdict
from ..errors import InvalidError, UsageError
from ..records import seal
from ..records.run_folder import RunFolder
from ..records.schema import Check, LoadedEngine, Provided, Seal
from ..verdict import evidence
from ..verdict.check import check, equal
from ..verdict.evidence import Evidence

CLOSED, OPEN, SELFTEST = "closed", "open", "selftest"
# Whole runs: what the open division may do its own way.
OPEN_RUN = (
    "dataset_source", "dataset_eligible", "model_source", "model_eligible", "scenarios",
    "speculative_decoding", "prompt_length", "required", "source",
)  # fmt: skip
# Scenarios: the ends of checks' names. TEST06 is not asked for, and other models end otherwise.
OPEN_SCENARIO = tuple(f"accuracy.{key}" for key in (*rules.ROUGE_KEYS, "gen_len", "endings"))
# The fake engine has no settings to compare.
SELFTEST_RUN = ("engine", "weights", "prefix_caching", "speculative_decoding", "prompt_length")
SELFTEST_SCENARIO = ("same_settings",)


@dataclass(frozen=True)
class Selection:
    """Run folders of one submission, each with its evidence and its checks."""

    evidence: tuple[Evidence, ...]
    checks: dict[str, list[Check]]
    division: str

    @property
    def scenarios(self) -> dict[str, Evidence]:
        """Scenario -> the run folder it comes from."""
        return {s.name: found for found in self.evidence for s in found.scenarios}

    @property
    def first(self) -> Evidence:
        return self.evidence[0]

    @property
    def engine(self) -> LoadedEngine:
        return engine_of(self.first)


def select(paths: Sequence[Path], division: str, submitter: str, round_name: str, category: str) -> Selection:
    """Judge the folders; InvalidError with every reason where the division refuses them."""
    found = tuple(evidence.read(RunFolder.open(path)) for path in paths)
    _once(found)
    checks = {e.run.path.name: verdict.examine(e.run) for e in found}
    joint = [
        *(_same(found, *part) for part in _parts(found)),
        _required(found, category),
        equal("asked_round", {e.round for e in found}, {round_name}, f"run with ROUND={round_name}"),
        equal("asked_category", {e.category for e in found}, {category}, f"run with CATEGORY={category}"),
        _source(found),
    ]
    if len(found) > 1:
        # Several folders together hold what one need not: `required` looks at all of them.
        checks = {name: [c for c in some if c.name != "scenarios"] for name, some in checks.items()}
    checks["together"] = joint
    selection = Selection(found, checks, division)
    _refuse(selection, submitter)
    return selection


def _refuse(selection: Selection, submitter: str) -> None:
    fake = {engine_of(e).name for e in selection.evidence} | {
        e.config.engine for e in selection.evidence if e.config
    }
    if "fake" in fake and submitter != SELFTEST:
        raise InvalidError(
            f"expected a run of a real engine, found the fake one; only the submitter {SELFTEST} packs that"
        )
    if submitter.lower() == SELFTEST and selection.division == CLOSED:
        raise InvalidError(f"SUBMITTER={SELFTEST} packs trees for tests, in the open division only")
    wrong = failures(selection, submitter)
    if wrong:
        lines = "".join(f"\n  {name}: {c.name}: {c.detail}. {c.fix}" for name, c in wrong)
        raise InvalidError(f"expected runs that the {selection.division} division takes, found:{lines}")


def failures(selection: Selection, submitter: str) -> list[tuple[str, Check]]:
    """The failed checks that count for this division, each with its run folder."""
    return [
        (name, c)
        for name, some in selection.checks.items()
        for c in some
        if c.passed is not True and not exempt(c.name, selection.division, submitter)
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


def _once(found: Sequence[Evidence]) -> None:
    seen: dict[str, str] = {}
    for one in found:
        for scenario in one.scenarios:
            if scenario.name in seen:
                raise UsageError(
                    f"expected each scenario in one run folder, found {scenario.name} in "
                    f"{seen[scenario.name]} and {one.run.path.name}"
                )
            seen[scenario.name] = one.run.path.name


def _parts(found: Sequence[Evidence]) -> list[tuple[str, list[object]]]:
    engines = [engine_of(e) for e in found]
    machines = [(str(e.system.cpu), str(_gpu_names(e))) for e in found]
    return [
        ("one_model", [(e.provenance.model or Provided()).sha256 for e in found]),
        ("one_dataset", [(e.provenance.dataset or Provided()).sha256 for e in found]),
        ("one_engine", [(e.name, e.version) for e in engines]),
        ("one_machine", [*machines]),
    ]


def engine_of(found: Evidence) -> LoadedEngine:
    return found.results.engine or LoadedEngine()


def _gpu_names(found: Evidence) -> list[str]:
    return [gpu.name for gpu in found.system.gpus]


def _same(found: Sequence[Evidence], name: str, values: list[object]) -> Check:
    return check(
        name,
        len({str(v) for v in values}) == 1,
        f"{len({str(v) for v in values})} in {len(found)} run folders",
        "pack runs of one model, dataset, engine and machine",
    )


def _required(found: Sequence[Evidence], category: str) -> Check:
    have = {s.name for e in found for s in e.scenarios if s.performance.detail and s.accuracy.detail}
    missing = [" or ".join(n) for n in rules.REQUIRED_SCENARIOS[category] if not set(n) & have]
    return check(
        "required",
        not missing,
        f"{category} has {', '.join(sorted(have)) or 'none'}"
        + (f", lacks {', '.join(missing)}" if missing else ""),
        "run the missing scenarios, then pack the run folders together",
    )


def _source(found: Sequence[Evidence]) -> Check:
    """The source that is packed must be the source that ran."""
    now = seal.source_sha256()
    stages = [e.run.read_or_new(Seal).stages for e in found]
    used = {str(s.source) for some in stages for s in some if s.stage == "run"}
    used |= {str(None) for some in stages if not some}
    return check(
        "source",
        used == {now},
        f"ran with {', '.join(u[:12] for u in sorted(used))}, here {now[:12]}",
        "check out the commit in system.json and pack again",
    )
