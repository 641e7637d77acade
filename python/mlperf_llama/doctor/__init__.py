"""What this machine has, lacks, and how to mend it. Standard library only: it runs before any set-up.

`fail` means that the run as asked cannot work here, `warn` that it works with less.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TextIO

from ..config import Config
from ..credentials.redaction import visible
from ..errors import EXIT_MISSING, EXIT_OK
from ..machine import system
from ..terminal.style import Style, colour_wanted
from . import foretold, hardware, reach, software
from .finding import FAIL, OK, WARN, Finding

__all__ = ["FAIL", "OK", "WARN", "Finding", "examine", "exit_code", "main", "render"]
COLOURS = {OK: "green", WARN: "yellow", FAIL: "red"}
NARROWEST = 60


def examine(config: Config, env: Mapping[str, str], network: bool = True) -> list[Finding]:
    """Every finding, in the order a person mends them. Under six seconds, most of it the network."""
    here = system.describe(env)
    probes = reach.start(config, env) if network else None
    findings = [
        *software.findings(config, env, here),
        *hardware.findings(config, env, here),
        *software.tokens(env),
    ]
    told = foretold.findings(config, env, here)
    return findings + (reach.finish(probes) if probes else []) + told


def exit_code(findings: Sequence[Finding]) -> int:
    """3 when something the asked run cannot do without is missing."""
    return EXIT_MISSING if any(f.level == FAIL for f in findings) else EXIT_OK


def render(findings: Sequence[Finding], style: Style, width: int) -> str:
    """A table: level, what, detail; each remedy on its own line below."""
    shown = [Finding(visible(f.name), f.level, visible(f.detail), visible(f.remedy)) for f in findings]
    column = max(len(f.name) for f in shown)
    columns = max(NARROWEST, width) - column - 8
    lines = []
    for f in shown:
        level = style.paint(f"{f.level:<4}", COLOURS[f.level])
        first, *more = textwrap.wrap(f.detail, columns) or [""]
        lines.append(f"{level}  {f.name:<{column}}  {first}")
        lines += [f"{'':<{column + 8}}{line}" for line in more]
        if f.remedy:
            lines.append(f"{'':<{column + 8}}-> {f.remedy}")
    counts = ", ".join(f"{sum(f.level == level for f in findings)} {level}" for level in (OK, WARN, FAIL))
    bad = exit_code(findings) != EXIT_OK
    last = "The run as asked cannot work here yet." if bad else "A run is possible here."
    return "\n".join([*lines, "", f"{counts}. {last}"])


def main(config: Config, env: Mapping[str, str], as_json: bool, stream: TextIO | None = None) -> int:
    """Examine and write the findings to `stream` (stdout): they are this verb's result."""
    out = stream or sys.stdout
    findings = examine(config, env)
    code = exit_code(findings)
    if as_json:
        out.write(
            json.dumps({"findings": [asdict(f) for f in findings], "possible": code == EXIT_OK}, indent=2)
        )
    else:
        style = Style(colour=colour_wanted(out, env))
        out.write(render(findings, style, shutil.get_terminal_size((120, 24)).columns))
    out.write("\n")
    return code
