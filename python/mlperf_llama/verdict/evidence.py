"""What a verdict rests on, read from a run folder however far the run came.

A file that is absent or broken becomes None or an empty record, never an
exception: each missing piece is a failed check, not a crash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import rules
from ..errors import PipelineError
from ..loadgen import logs
from ..records.run_folder import RunFolder

Json = dict[str, Any]


@dataclass(frozen=True)
class ModeLogs:
    """LoadGen's logs of one run of one scenario; `detail` None where there are none."""

    path: Path
    detail: logs.Detail | None
    problem: str = ""

    def get(self, key: str) -> Any:
        return None if self.detail is None else self.detail.get(key)


@dataclass(frozen=True)
class ScenarioEvidence:
    """One scenario: its three LoadGen runs and what results.json says about it."""

    name: str
    category: str
    round: str
    folder: Path
    performance: ModeLogs
    accuracy: ModeLogs
    compliance: ModeLogs
    recorded: Json = field(default_factory=dict)

    @property
    def full_count(self) -> int:
        return rules.SAMPLE_COUNT[self.category]


@dataclass(frozen=True)
class Evidence:
    """A whole run folder."""

    run: RunFolder
    config: Json
    provenance: Json
    results: Json
    system: Json
    problems: tuple[str, ...]
    round: str
    category: str
    scenarios: tuple[ScenarioEvidence, ...]


def record(data: object) -> Json:
    """`data` where it is a JSON object, else an empty one."""
    return data if isinstance(data, dict) else {}


def read_mode(path: Path) -> ModeLogs:
    """The detail log in `path`, or the reason there is none."""
    if not (path / "mlperf_log_detail.txt").is_file():
        return ModeLogs(path, None, "no mlperf_log_detail.txt")
    try:
        return ModeLogs(path, logs.read_detail(path))
    except (PipelineError, OSError, ValueError) as error:
        return ModeLogs(path, None, str(error))


def read_scenario(
    run: RunFolder, name: str, category: str, round_name: str, recorded: Json
) -> ScenarioEvidence:
    """One scenario's logs in a run folder."""
    performance, accuracy, compliance = (read_mode(run.log_dir(name, mode)) for mode in rules.MODES)
    return ScenarioEvidence(
        name,
        category,
        round_name,
        run.scenario(name),
        performance=performance,
        accuracy=accuracy,
        compliance=compliance,
        recorded=recorded,
    )


def read(run: RunFolder) -> Evidence:
    """Everything in the folder. The category and the round are the config's."""
    problems: list[str] = []

    def load(name: str) -> Json:
        try:
            return run.read_raw(name)
        except PipelineError as error:
            problems.append(str(error))
            return {}

    config, provenance, results, system = (
        load(n) for n in ("config.json", "provenance.json", "results.json", "system.json")
    )
    category = config.get("category")
    category = category if category in rules.SAMPLE_COUNT else rules.DATACENTER
    round_name = str(config.get("round"))
    recorded = record(results.get("scenarios"))
    asked = config.get("scenario") or ()
    names = [s for s in rules.SCENARIOS if s in asked or s in recorded or run.scenario(s).is_dir()]
    found = tuple(read_scenario(run, n, category, round_name, record(recorded.get(n))) for n in names)
    return Evidence(run, config, provenance, results, system, tuple(problems), round_name, category, found)
