"""The summary files of a folder of trees: what was packed, for people and for other tools."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import rules
from ..loadgen import logs
from ..records import codec
from ..records.files import digest, write_text
from ..records.schema import SCHEMA_VERSION, Accuracy, Check, Performance, Scenario
from . import documents, source_tree
from .layout import Layout
from .selection import Selection


@dataclass(frozen=True)
class PackedScenario:
    """One scenario of a tree, and the run folder it comes from."""

    performance: Performance | None
    accuracy: Accuracy | None
    run_folder: str
    full_accuracy_log: str
    full_accuracy_log_sha256: str


@dataclass(frozen=True)
class PackedTree:
    """The record of one tree; `checks` by run folder."""

    tree: str
    division: str
    round: str
    submitter: str
    system: str
    benchmark: str
    notes: tuple[str, ...]
    scenarios: dict[str, PackedScenario]
    checks: dict[str, tuple[Check, ...]]


def record_path(home: Path, tree: Path) -> Path:
    """The record of a tree, in the folder above it."""
    return home / f"mlperf_{home.name}_results_{tree.name}.json"


def write(
    home: Path,
    tree: Path,
    selection: Selection,
    layout: Layout,
    system: Mapping[str, object],
    notes: Sequence[str],
) -> None:
    """Write the record, the system description, the Dockerfile and the run script."""
    record = PackedTree(
        tree=tree.name,
        division=layout.division,
        round=layout.round,
        submitter=layout.submitter,
        system=layout.system,
        benchmark=layout.benchmark,
        notes=tuple(notes),
        scenarios={name: _scenario(selection, name) for name in selection.scenarios},
        checks={name: tuple(own) for name, own in selection.checks.items()},
    )
    write_json(record_path(home, tree), {"schema_version": SCHEMA_VERSION, **codec.to_json(record)})
    write_json(home / "system_description.json", system)
    _dockerfile(home)
    _run_script(home, selection)


def write_json(path: Path, data: Mapping[str, object]) -> None:
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def _scenario(selection: Selection, name: str) -> PackedScenario:
    run = selection.scenarios[name]
    recorded = run.evidence.results.scenarios.get(name, Scenario())
    log = run.folder.log_dir(name, "accuracy") / logs.ACCURACY
    return PackedScenario(
        recorded.performance, recorded.accuracy, str(run.folder.path), str(log), digest(log)
    )


def _dockerfile(home: Path) -> None:
    root = source_tree.root()
    if root and (root / "docker" / "Dockerfile").is_file():
        shutil.copy2(root / "docker" / "Dockerfile", home / "Dockerfile")


def _run_script(home: Path, selection: Selection) -> None:
    lines = ["#!/usr/bin/env bash", "# Makes these runs again, from the root of the source tree."]
    lines += ["set -euo pipefail"]
    for run in selection.runs:
        names = [scenario.name for scenario in run.scenarios]
        in_order = [name for name in rules.SCENARIOS if name in names]
        lines.append(shlex.join(documents.command(run.config, in_order)))
    path = home / "run.sh"
    write_text(path, "\n".join(lines) + "\n")
    path.chmod(0o755)
