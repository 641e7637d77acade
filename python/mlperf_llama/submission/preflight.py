"""What packing will ask for, asked before hours of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from .. import rules
from ..config import Config
from ..errors import UsageError
from ..machine import system
from ..records.schema import LoadedEngine, System
from ..settings import PREFIX
from . import description, overrides
from .packing import check_submitter
from .selection import SELFTEST


def settings_for_submission(config: Config, flags: Mapping[str, str], env: Mapping[str, str]) -> Config:
    """`config` with the scenarios and modes a submission needs, where the user chose none.

    UsageError where SUBMITTER or a key of system.toml is missing.
    """
    check_ready(config, system.describe(env))
    scenario, mode = (bool(flags.get(name) or env.get(PREFIX + name)) for name in ("SCENARIO", "MODE"))
    required = tuple(choice[0] for choice in rules.REQUIRED_SCENARIOS[config.category])
    return replace(
        config,
        scenario=config.scenario if scenario else required,
        mode=config.mode if mode else rules.MODES,
    )


def check_ready(config: Config, machine: System) -> None:
    """UsageError where SUBMITTER or a key of system.toml is missing, or one contradicts this machine."""
    check_submitter(config.submitter)
    path = Path(config.system_file)
    toml = description.read_toml(path)
    overrides.find(path, description.measured(machine, LoadedEngine()), toml, later=("framework",))
    engine = LoadedEngine(config.engine, "known after the run")
    missing = description.missing(description.describe(machine, engine, toml))
    missing = [key for key in missing if key not in description.OWN]
    if missing and config.submitter != SELFTEST:
        raise UsageError(
            f"{config.system_file}: expected values for {', '.join(missing)}, "
            "which this machine does not tell; docs/submission.md explains each"
        )
