"""Opens a run: the folder with its settings and the system it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from . import rules, system
from .config import Config
from .results import RUNNING, RunFolder


def create(config: Config, env: Mapping[str, str]) -> RunFolder:
    """Make the run folder with config.json, system.json and the first provenance."""
    run = RunFolder.create(Path(config.results_dir), "-".join(config.scenario))
    described = system.describe(env)
    run.write("config.json", config.to_json())
    run.write("system.json", described)
    loadgen = rules.ROUNDS[config.round].loadgen_version
    run.write("provenance.json", {"round": config.round, "loadgen_version": loadgen})
    now = datetime.now(UTC).isoformat(timespec="seconds")
    run.write(
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
