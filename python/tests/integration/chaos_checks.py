"""What must hold after every round of chaos.py."""

from __future__ import annotations

import hashlib
from pathlib import Path

from chaos_harms import Started
from chaos_world import World, articles, orphans, scores
from forked_runs import PARTS, Run, outcomes
from run_folder_schemas import problems

from mlperf_llama.records import seal
from mlperf_llama.records.files import object_or_empty
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import COMPLETE, Provenance
from mlperf_llama.verdict import twice

# Checks that may fail beside those that fail in a calm run, because LoadGen, not this package, says so.
BY_LOADGEN = ("Server.valid", "Server.ttft_p99", "Server.tpot_p99", "Server.early_stopping")


def no_traceback(text: str) -> None:
    assert "Traceback" not in text and "unexpected fault" not in text, text[-3000:]


def no_orphans(world: World) -> None:
    still = orphans(world)
    assert not still, f"left behind: {still}"


def ended_well(world: World, started: Started, code: int, codes: tuple[int, ...]) -> None:
    """With a code that tells the truth, in plain words, and nothing is left behind."""
    assert code in codes, f"ended with {code}: {started.said()[-2000:]}"
    no_traceback(started.said())
    no_orphans(world)


def judged(world: World, run: Run) -> None:
    """Finished, with every answer, and judged as a run that nobody harmed; no better, and worse only where
    LoadGen says so."""
    assert run.path is not None
    folder = RunFolder(run.path)
    assert seal.faults(folder) == []
    assert object_or_empty(folder.file("results.json")).get("status") == COMPLETE
    assert len(run.finished) == PARTS, f"parts: {sorted(run.finished)}"
    assert scores(folder) == world.scores
    checks = outcomes(folder)
    other = {name for name in {*checks, *world.checks} if checks.get(name) != world.checks.get(name)}
    assert other <= set(BY_LOADGEN), f"judged otherwise: {sorted(other)}"
    assert not any(checks[name] for name in other), f"judged better: {sorted(other)}"
    assert problems(run.path) == []
    assert not list(run.path.rglob(".*.????????")), "temporary files are left"


def source_of(world: World, place: Path) -> str:
    """Where the newest run has its articles from; what is named MLCommons' must have its bytes."""
    run = RunFolder((place / "results/latest").resolve())
    served = run.read(Provenance).dataset
    assert served is not None and not served.eligible
    if served.source == "mlcommons":
        assert served.sha256 == hashlib.sha256(articles()).hexdigest()
        assert hashlib.sha256(Path(str(served.path)).read_bytes()).hexdigest() == served.sha256
    return str(served.source)


def believed(folder: RunFolder) -> str:
    """A rate that is not the true one is not believed."""
    results = object_or_empty(folder.file("results.json"))
    performance = results["scenarios"]["Offline"]["performance"]  # type: ignore[index]
    true_s = performance["driven"]["seconds"]
    theirs_s = performance["driven"]["samples"] / (performance["samples_per_second"] or float("inf"))
    wrong = abs(theirs_s - true_s) > max(twice.SHARE * true_s, twice.SLACK_S)
    passed = outcomes(folder)["Offline.performance.clock"]
    assert not (wrong and passed), f"{theirs_s:.2f} s were believed, {true_s:.2f} s are true"
    return "not believed" if not passed else "true to the second"
