"""What `make run` will do here, as findings: the same lines as `plan` gives."""

from __future__ import annotations

from collections.abc import Mapping

from ..config import Config
from ..errors import PipelineError
from ..records.schema import System
from .finding import OK, WARN, Finding


def findings(config: Config, env: Mapping[str, str], system: System) -> list[Finding]:
    """None but a hint before the environment is there, whose packages the arithmetic needs."""
    try:
        from ..bench import foretell
    except ImportError:
        return [
            Finding("make run", OK, "what it will do, `doctor` and `plan` say once the environment is there")
        ]
    try:
        expectations = foretell.lines(config, system.gpus, env)
    except PipelineError as error:
        return [Finding("make run", WARN, str(error))]
    return [Finding(line.name, OK if line.good else WARN, line.text) for line in expectations]
