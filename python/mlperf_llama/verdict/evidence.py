"""What a verdict rests on, read from a run folder however far the run came.

A record that is absent or broken becomes an empty one (the config: None) and an entry of
`problems`, never an exception: each missing piece is a failed check, not a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .. import rules
from ..config import Config
from ..errors import PipelineError
from ..loadgen import logs
from ..records.run_folder import RunFolder
from ..records.schema import (
    EngineLoads,
    Environment,
    Provenance,
    Results,
    Scenario,
    Seal,
    SealedStage,
    System,
)
from ..records.seal import MEASURED

T = TypeVar("T")
# What MLPerf Endpoints writes in the place of LoadGen's logs (checker: parsers/endpoints_parser.py).
ENDPOINTS = ("result_summary.json", "accuracy_results.json")


@dataclass(frozen=True)
class ModeLogs:
    """LoadGen's logs of one run of one scenario; `detail` None where there are none."""

    path: Path
    detail: logs.Detail | None
    problem: str = ""

    def get(self, key: str) -> object:
        return None if self.detail is None else self.detail.get(key)

    def number(self, key: str) -> float | None:
        return None if self.detail is None else self.detail.number(key)


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
    recorded: Scenario = field(default_factory=Scenario)

    @property
    def full_count(self) -> int:
        return rules.SAMPLE_COUNT[self.category]

    @property
    def modes(self) -> dict[str, ModeLogs]:
        return {"performance": self.performance, "accuracy": self.accuracy, "compliance": self.compliance}


@dataclass(frozen=True)
class Evidence:
    """A whole run folder. `problems`: by file name, why a record could not be read."""

    run: RunFolder
    config: Config | None
    provenance: Provenance
    results: Results
    system: System
    problems: Mapping[str, str]
    round: str
    category: str
    scenarios: tuple[ScenarioEvidence, ...]
    engine_loads: EngineLoads
    environment: Environment
    # Empty where the seal cannot be read, which its own check says.
    stages: tuple[SealedStage, ...] = ()

    @property
    def engine_name(self) -> str | None:
        """The engine that was loaded, as results.json names it."""
        return self.results.engine.name if self.results.engine else None

    @property
    def complete_scenarios(self) -> tuple[str, ...]:
        """Those with the logs of performance and of accuracy."""
        return tuple(s.name for s in self.scenarios if s.performance.detail and s.accuracy.detail)

    @property
    def sources(self) -> tuple[str | None, ...]:
        """The hash of the source in each stage that measured."""
        return tuple(stage.source for stage in self.stages if stage.stage == MEASURED)

    @property
    def every_settings(self) -> tuple[dict[str, object], ...]:
        """The engine's settings as loaded, and as each mode of each scenario recorded them."""
        loaded = self.results.engine.settings if self.results.engine else {}
        per_mode = [s.recorded.engine_settings or {} for s in self.scenarios]
        return (loaded, *(settings for modes in per_mode for settings in modes.values()))


def read_mode(path: Path) -> ModeLogs:
    """The detail log in `path`, or the reason there is none."""
    if not (path / logs.DETAIL).is_file():
        made_by = next((str(n) for n in ENDPOINTS if (path / n).is_file() or (path.parent / n).is_file()), "")
        kind = (
            f": made by MLPerf Endpoints ({made_by}), which only MLCommons' checker judges" if made_by else ""
        )
        return ModeLogs(path, None, f"no {logs.DETAIL}{kind}")
    try:
        return ModeLogs(path, logs.read_detail(path))
    except (PipelineError, OSError, ValueError) as error:
        return ModeLogs(path, None, str(error))


def read_scenario(
    run: RunFolder, name: str, category: str, round_name: str, recorded: Scenario
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
    problems: dict[str, str] = {}

    def attempt(name: str, reader: Callable[[], T], default: T) -> T:
        try:
            return reader()
        except PipelineError as error:
            problems[name] = str(error)
            return default

    config = attempt(Config.FILE, run.config, None)
    provenance = attempt(Provenance.FILE, lambda: run.read(Provenance), Provenance())
    results = attempt(Results.FILE, lambda: run.read(Results), Results())
    system = attempt(System.FILE, lambda: run.read(System), System())
    loads = attempt(EngineLoads.FILE, lambda: run.read_or_new(EngineLoads), EngineLoads())
    environment = attempt(Environment.FILE, lambda: run.read_or_new(Environment), Environment())
    category = config.category if config and config.category in rules.SAMPLE_COUNT else rules.DATACENTER
    round_name = config.round if config else "unknown"
    requested = config.scenario if config else ()
    names = [
        s for s in rules.SCENARIOS if s in requested or s in results.scenarios or run.scenario(s).is_dir()
    ]
    scenarios = tuple(
        read_scenario(run, n, category, round_name, results.scenarios.get(n, Scenario())) for n in names
    )
    return Evidence(
        run,
        config,
        provenance,
        results,
        system,
        problems,
        round_name,
        category,
        scenarios,
        engine_loads=loads,
        environment=environment,
        stages=_stages(run),
    )


def _stages(run: RunFolder) -> tuple[SealedStage, ...]:
    try:
        return run.read_or_new(Seal).stages
    except PipelineError:
        return ()
