"""Opens a run: the folder with its settings and the system it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from .. import rules
from ..config import Config
from ..errors import UsageError
from ..machine import system
from ..records import seal
from ..records.run_folder import RunFolder
from ..records.schema import COMPLETE, RUNNING
from ..tune import records


def create(config: Config, env: Mapping[str, str], tune: bool = False) -> RunFolder:
    """Make the run folder with config.json, system.json and the first provenance; `tune`: for
    a search of settings, not a result."""
    label = "-".join(config.scenario)
    run = RunFolder.create(Path(config.results_dir), f"tune-{label}" if tune else label)
    if tune:
        records.begin(run, config.search)
    described = system.describe(env)
    run.write_raw("config.json", config.to_json())
    run.write_raw("system.json", described)
    loadgen = rules.ROUNDS[config.round].loadgen_version
    run.write_raw("provenance.json", {"round": config.round, "loadgen_version": loadgen})
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run.write_raw(
        "results.json",
        {
            "status": RUNNING,
            "started": now,
            "finished": None,
            "round": config.round,
            "category": config.category,
            "scenarios": {},
        },
    )
    return run


def for_submission(config: Config, flags: Mapping[str, str], env: Mapping[str, str]) -> Config:
    """The scenarios and modes a submission needs, where the user chose none; checked for packing."""
    from ..submission import preflight

    return preflight.settings_for_submission(config, flags, env)


def reopen(path: Path, env: Mapping[str, str]) -> tuple[RunFolder, Config]:
    """Open a run that ended early, here or on another machine, to finish what is missing.

    What its finished runs stood on is kept in provenance.json: other data or another
    model is refused later, another machine is named in the verdict.
    """
    run = RunFolder.open(path)
    results = run.read_raw("results.json")
    if results.get("status") == COMPLETE:
        raise UsageError(f"{path}: expected a run that ended early, found a complete one")
    config = Config.from_json(run.read_raw("config.json"))
    with seal.stage(run, "resume"):
        provenance = run.read_raw("provenance.json")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        resumed = [*provenance.get("resumed", []), {"time": now, "other_system": other_system(run, env)}]
        stood_on = provenance.get("stood_on") or {
            kind: provenance.get(kind, {}).get("sha256") for kind in ("dataset", "model")
        }
        run.merge("provenance.json", resumed=resumed, stood_on=stood_on)
        run.merge("results.json", status=RUNNING, finished=None)
    return run, config


def other_system(run: RunFolder, env: Mapping[str, str]) -> list[str]:
    """Which parts of this machine differ from the one the run began on."""
    before, here = run.read_raw("system.json"), system.describe(env)
    return [part for part in ("cpu", "gpus", "packages") if before.get(part) != here.get(part)]
