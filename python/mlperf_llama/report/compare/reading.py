"""Reading what is compared: a run folder, or a submission tree or a part of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ... import rules
from ...config import Config
from ...errors import PipelineError, UsageError
from ...loadgen import logs
from ...records import codec, seal
from ...records.files import JsonObject, read_object
from ...records.run_folder import RunFolder
from ...records.schema import Accuracy, Provided
from ...score import accuracy_text
from ...tune.records import Tuning
from .. import charts, outcome, run
from ..events import by_stage
from ..svg import Point
from .sides import SAME, Group, Measured, Side, differ


def _facts(prefix: str, values: Mapping[str, object]) -> JsonObject:
    """The values that are no objects and not empty, under names of their own."""
    return {f"{prefix}{k}": v for k, v in values.items() if not isinstance(v, dict) and v not in (None, "")}


def _identity(provided: Provided | None) -> str | None:
    """What a model or dataset is, by its hash where there is one."""
    if provided is None:
        return None
    return provided.sha256 or provided.revision or provided.source


def read_run(path: Path) -> Side:
    """A run folder of ours."""
    ours = run.read(RunFolder.open(path))
    provenance, system, engine = ours.provenance, ours.system, ours.engine
    first = ours.gpus[0] if ours.gpus else None
    facts = {
        "benchmark": rules.benchmark_name(ours.category),
        "round": ours.round,
        "model": _identity(provenance.model),
        "dataset": _identity(provenance.dataset),
        "samples": provenance.samples,
        "duration_s": provenance.duration_s,
        "engine": f"{engine.name} {engine.version}",
        "GPUs in use": ours.gpus_used,
        "GPU": first.name if first else None,
        "driver": first.driver if first else None,
        "CPU": system.cpu.model,
        "commit": system.git.get("commit"),
        **_facts("setting ", codec.to_json(ours.config) if ours.config else {}),
        **_facts("engine setting ", engine.settings),
        **_facts("package ", system.packages),
    }
    tuned_loads = _tuned(path)
    measured = {
        name: Measured(
            scenario.performance,
            scenario.accuracy,
            _requested(ours.logs.get(name, {}), ours.config, name),
            tuned_loads.get(name),
            _rates(ours, name),
            ours.logs.get(name, {}),
        )
        for name, scenario in ours.scenarios.items()
        if scenario.performance or scenario.accuracy or name in tuned_loads
    }
    edits = [f"Not as its stages sealed it: {fault}" for fault in seal.faults(RunFolder(ours.path))[:1]]
    return Side(ours.path.name, measured, facts, [*edits, *ours.not_eligible()])


def _requested(detail: Mapping[str, object], config: Config | None, scenario: str) -> float | None:
    """The rate LoadGen was told to send: by its log, else by the settings."""
    if scenario not in rules.TOKEN_LATENCY_LIMITS_MS:
        return None
    logged = outcome.asked(detail).target_qps
    if logged is not None and logged > 0:
        return logged
    return config.target_qps if config else None


def _tuned(path: Path) -> dict[str, float]:
    """The answers of a tuning, by scenario; empty for other runs."""
    folder = RunFolder(path)
    if not folder.is_tuning:
        return {}
    try:
        searches = folder.read(Tuning).scenarios
    except PipelineError:
        return {}
    return {name: search.answer for name, search in searches.items() if search.answer is not None}


def _rates(ours: run.Run, scenario: str) -> tuple[Point, ...]:
    """Samples per second over the seconds of the performance run."""
    events = by_stage(ours.events).get(f"{scenario} performance")
    return tuple(charts.sample_rates(events)) if events else ()


def _accuracy(folder: Path) -> Accuracy:
    """The scores of a submission's accuracy.txt."""
    scores, _ = accuracy_text.read(folder / "accuracy" / accuracy_text.NAME)
    return codec.from_json(Accuracy, scores)


def read_tree(path: Path) -> Side:
    """A submission tree (or a part of one, from a system's results down to one scenario)."""
    details = sorted(path.glob(f"**/performance/run_1/{logs.DETAIL}"))
    benchmarks = {detail.parents[3] for detail in details}
    side = Side(path.name)
    for detail in details:
        folder, benchmark = detail.parents[2], detail.parents[3]
        scenario = next((s for s in rules.SCENARIOS if s.lower() == folder.name.lower()), folder.name)
        system = f"{benchmark.parent.name}/{benchmark.name}"
        name = scenario if len(benchmarks) == 1 else f"{system} {scenario}"
        try:
            performance = logs.performance(detail.parent, scenario)
            logged = logs.read_detail(detail.parent)
            requested = _requested(logged, None, scenario)
            side.scenarios[name] = Measured(performance, _accuracy(folder), requested, detail=logged)
        except (PipelineError, KeyError) as error:
            side.notes.append(f"{name}: {error}")
    if len(benchmarks) == 1:
        benchmark = next(iter(benchmarks))
        side.name, side.facts = benchmark.parent.name, _tree_facts(benchmark)
    return side


def _tree_facts(benchmark: Path) -> JsonObject:
    """Facts of one system's benchmark folder: its name, and the system file where the tree has it."""
    facts: JsonObject = {
        "benchmark": benchmark.name.replace("llama3_1", "llama3.1"),
        "system": benchmark.parent.name,
    }
    for above in benchmark.parents:
        system = above / "systems" / f"{benchmark.parent.name}.json"
        if system.is_file():
            return {**facts, **_facts("system ", read_object(system))}
    return facts


def read(path: Path) -> Side:
    """Whatever lies at `path`; UsageError where it is no result."""
    path = path.expanduser().resolve()
    if (path / Config.FILE).is_file():
        return read_run(path)
    side = read_tree(path) if path.is_dir() else Side(path.name)
    if not side.scenarios:
        reason = f": {side.notes[0]}" if side.notes else ""
        raise UsageError(
            f"{path}: expected a run folder or a submission tree with results, found none{reason}"
        )
    return side


def read_group(letter: str, paths: Sequence[Path]) -> Group:
    """A result and its repeats. UsageError where they are not repeats of one another."""
    sides = tuple(read(path) for path in paths)
    for side in sides[1:]:
        if reasons := [text for key, text in SAME.items() if differ(sides[0], side, key)]:
            raise UsageError(
                f"{letter}: expected repeats of one run, found {sides[0].name} and {side.name}: "
                f"{' '.join(reasons)}"
            )
    return Group(letter, sides)
