"""The flat files beside the trees: what was packed, for people and for other tools."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import rules
from ..records import codec
from ..records.files import digest, write_text
from ..records.schema import SCHEMA_VERSION, Scenario
from ..verdict import accuracy
from . import documents, source_tree
from .layout import Layout
from .selection import Selection


def record_name(home: Path, tree: Path) -> Path:
    """The record of a tree, in the folder above it."""
    return home / f"mlperf_{home.name}_results_{tree.name}.json"


def write(
    home: Path,
    tree: Path,
    selection: Selection,
    layout: Layout,
    system: Mapping[str, Any],
    notes: Sequence[str],
) -> None:
    """Write the record, the system description, the Dockerfile and the run script."""
    data = {
        "schema_version": SCHEMA_VERSION,
        "tree": tree.name,
        "division": layout.division,
        "round": layout.round,
        "submitter": layout.submitter,
        "system": layout.system,
        "benchmark": layout.benchmark,
        "notes": list(notes),
        "scenarios": {name: _scenario(selection, name) for name in selection.scenarios},
        "checks": {name: [codec.to_json(c) for c in some] for name, some in selection.checks.items()},
    }
    write_text(record_name(home, tree), json.dumps(data, indent=2, ensure_ascii=False) + "\n")
    write_text(home / "system_description.json", json.dumps(system, indent=2, ensure_ascii=False) + "\n")
    _dockerfile(home)
    _run_script(home, selection)


def _scenario(selection: Selection, name: str) -> dict[str, Any]:
    found = selection.scenarios[name]
    recorded = found.results.scenarios.get(name, Scenario())
    log = found.run.log_dir(name, "accuracy") / accuracy.LOG
    return {
        "performance": codec.to_json(recorded.performance),
        "accuracy": codec.to_json(recorded.accuracy),
        "run_folder": str(found.run.path),
        "full_accuracy_log": str(log),
        "full_accuracy_log_sha256": digest(log),
    }


def _dockerfile(home: Path) -> None:
    top = source_tree.root()
    if top and (top / "docker" / "Dockerfile").is_file():
        shutil.copy2(top / "docker" / "Dockerfile", home / "Dockerfile")


def _run_script(home: Path, selection: Selection) -> None:
    lines = ["#!/usr/bin/env bash", "# Makes these runs again, from the root of the source tree."]
    lines += ["set -euo pipefail"]
    for found in selection.evidence:
        names = [s.name for s in found.scenarios]
        order = [s for s in rules.SCENARIOS if s in names]
        lines.append(shlex.join(documents.command(codec.to_json(found.config), order)))
    path = home / "run.sh"
    write_text(path, "\n".join(lines) + "\n")
    path.chmod(0o755)
