"""Where things lie in a submission tree, by round.

Sources: mlcommons/inference tools/submission/submission_structure.md and
submission_checker/constants.py. v5.1 has `measurements`, `compliance` and `code`
beside `results`; from v6.0 on everything of a scenario is under `results`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

SPLIT_ROUNDS = ("v5.1",)


@dataclass(frozen=True)
class Layout:
    """Paths of one submitter's system and benchmark in the tree at `root`.

    `spelled`: scenarios whose folders may be written otherwise, such as in lower case.
    """

    root: Path
    round: str
    division: str
    submitter: str
    system: str
    benchmark: str
    spelled: Mapping[str, str] = field(default_factory=dict)

    @property
    def split(self) -> bool:
        return self.round in SPLIT_ROUNDS

    @property
    def home(self) -> Path:
        return self.root / self.division / self.submitter

    @property
    def _part(self) -> Path:
        return Path(self.system) / self.benchmark

    def _folder(self, scenario: str) -> Path:
        return self._part / self.spelled.get(scenario, scenario)

    @property
    def benchmark_folder(self) -> Path:
        return self.home / "results" / self._part

    def results(self, scenario: str) -> Path:
        return self.home / "results" / self._folder(scenario)

    def performance(self, scenario: str) -> Path:
        return self.results(scenario) / "performance" / "run_1"

    def accuracy(self, scenario: str) -> Path:
        return self.results(scenario) / "accuracy"

    def test06(self, scenario: str) -> Path:
        folder = self.home / "compliance" / self._folder(scenario) if self.split else self.results(scenario)
        return folder / "TEST06"

    def measurements(self, scenario: str) -> Path:
        """The folder of user.conf, README.md and the measurements file."""
        return self.home / "measurements" / self._folder(scenario) if self.split else self.results(scenario)

    def measurements_json(self, scenario: str) -> Path:
        """v5.1 names the file after the system; made by others, it may carry the scenario too."""
        folder = self.measurements(scenario)
        if not self.split:
            return folder / "measurements.json"
        existing = sorted(folder.glob(f"{escape(self.system)}*.json")) if folder.is_dir() else []
        return existing[0] if existing else folder / f"{self.system}.json"

    @property
    def source(self) -> Path:
        return self.home / ("code" if self.split else "src")

    @property
    def systems(self) -> Path:
        return self.home / "systems"

    @property
    def system_json(self) -> Path:
        return self.systems / f"{self.system}.json"

    @property
    def documentation(self) -> Path:
        return self.home / "documentation"
