"""What packing will ask for, asked before hours of runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import rules
from ..config import Config
from ..errors import UsageError
from . import description
from .packing import check_submitter
from .selection import SELFTEST


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
