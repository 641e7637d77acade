"""What packing will ask for, asked before hours of runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import rules
from ..config import Config
from ..errors import UsageError
from ..machine import system
from ..settings import PREFIX
from . import description
from .packing import check_submitter
from .selection import SELFTEST


def settings_for_submission(config: Config, flags: Mapping[str, str], env: Mapping[str, str]) -> Config:
    """The scenarios and modes a submission needs, where the user chose none; checked for packing."""
    ready(config, system.describe(env))
    scenario, mode = (bool(flags.get(n) or env.get(PREFIX + n)) for n in ("SCENARIO", "MODE"))
    return replace(
        config,
        scenario=config.scenario if scenario else scenarios(config.category),
        mode=config.mode if mode else rules.MODES,
    )


def scenarios(category: str) -> tuple[str, ...]:
    """The scenarios a submission needs at least: the first of each choice."""
    return tuple(choice[0] for choice in rules.REQUIRED_SCENARIOS[category])


def ready(config: Config, system: Mapping[str, Any]) -> None:
    """UsageError where SUBMITTER or a key of system.toml is missing."""
    check_submitter(config.submitter)
    given = description.read_toml(Path(config.system_file))
    engine = {"name": config.engine, "version": "known after the run"}
    missing = description.missing(description.describe(system, engine, given))
    missing = [key for key in missing if key not in description.OWN]
    if missing and config.submitter != SELFTEST:
        raise UsageError(
            f"{config.system_file}: expected values for {', '.join(missing)}, "
            "which this machine does not tell; docs/submission.md explains each"
        )
