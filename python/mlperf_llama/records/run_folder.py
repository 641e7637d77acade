"""The run folder: its names, atomic writes, reading back. DESIGN.md's layout.

A file that exists is complete: every JSON file is written to a temporary name
in the same folder and renamed.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..errors import MissingError, UsageError

SCHEMA_VERSION = 1
# results.json `status`: what became of the run.
RUNNING, COMPLETE, INTERRUPTED, FAILED = "running", "complete", "interrupted", "failed"


def write_text(path: Path, text: str) -> None:
    """Write atomically: a temporary file in the same folder, then a rename."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from disk; MissingError where absent, UsageError where broken."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{path}: expected a file, found none; is the run finished?") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected a JSON object, could not read it: {error}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected a JSON object, found a {type(data).__name__}")
    return data


@dataclass(frozen=True)
class RunFolder:
    """One run's folder. Paths only; the content of each file belongs to its stage."""

    path: Path

    @staticmethod
    def create(results_dir: Path, label: str) -> RunFolder:
        """Make `<UTC time>-<label>` and point `latest` at it."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        name = re.sub(r"[^a-z0-9-]+", "-", label.lower()).strip("-")
        try:
            results_dir.mkdir(parents=True, exist_ok=True)
            path = results_dir / f"{stamp}-{name}"
            count = 1
            while True:
                try:
                    path.mkdir()
                    break
                except FileExistsError:
                    count += 1
                    path = results_dir / f"{stamp}-{name}-{count}"
            link = results_dir / f".latest.{os.getpid()}"
            link.unlink(missing_ok=True)
            link.symlink_to(path.name)
            os.replace(link, results_dir / "latest")
        except OSError as error:
            raise UsageError(
                f"RESULTS_DIR: expected a folder that can be written, found {results_dir}: {error.strerror}"
            ) from None
        return RunFolder(path.absolute())

    @staticmethod
    def open(path: Path) -> RunFolder:
        if not (path / "config.json").is_file():
            raise UsageError(f"{path}: expected a run folder (with config.json), found none")
        return RunFolder(path.absolute())

    def file(self, name: str) -> Path:
        return self.path / name

    def write(self, name: str, data: Mapping[str, Any]) -> None:
        """Write `name` as JSON with the schema version first."""
        whole = {"schema_version": SCHEMA_VERSION, **data}
        write_text(self.file(name), json.dumps(whole, indent=2, ensure_ascii=False) + "\n")

    def read(self, name: str) -> dict[str, Any]:
        return read_json(self.file(name))

    def read_or_empty(self, name: str) -> dict[str, Any]:
        return self.read(name) if self.file(name).is_file() else {}

    def merge(self, name: str, **parts: Any) -> dict[str, Any]:
        """Replace top-level keys of a JSON file, keeping the others."""
        data = {**self.read_or_empty(name), **parts}
        self.write(name, data)
        return data

    def scenario(self, scenario: str) -> Path:
        return self.path / scenario

    def log_dir(self, scenario: str, mode: str) -> Path:
        """Where LoadGen writes: performance/run_1, accuracy or TEST06."""
        part = {"performance": "performance/run_1", "compliance": "TEST06"}.get(mode, mode)
        return self.scenario(scenario) / part
