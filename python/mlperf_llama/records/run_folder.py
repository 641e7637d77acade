"""The run folder: its names, and its records read and written whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from ..config import Config
from ..credentials import redaction
from ..errors import UsageError
from . import codec, contents
from .files import digest, object_or_empty, read_object, write_text
from .schema import SCHEMA_VERSION, Seal

# Only a search of settings has this file.
TUNING = "tuning.json"


class Record(Protocol):
    """A frozen dataclass with the name of its file."""

    FILE: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class RunFolder:
    """One run's folder. Paths and records only; the content of each file belongs to its stage."""

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
        if not (path / Config.FILE).is_file():
            raise UsageError(f"{path}: expected a run folder (with {Config.FILE}), found none")
        return RunFolder(path.absolute())

    def file(self, name: str) -> Path:
        return self.path / name

    def names(self, *paths: Path) -> tuple[str, ...]:
        """Paths in this folder as its records name them."""
        return tuple(path.relative_to(self.path).as_posix() for path in paths)

    @property
    def is_tuning(self) -> bool:
        return self.file(TUNING).is_file()

    def config(self) -> Config:
        """The settings of the run; MissingError where they are absent, UsageError where they are broken."""
        path = self.file(Config.FILE)
        try:
            # Through the codec, which checks the types.
            return codec.from_json(Config, codec.to_json(Config.from_json(read_object(path))))
        except (ValueError, TypeError, KeyError) as error:
            raise UsageError(f"{path}: not as this version writes it: {error}") from None

    def read(self, kind: type[R]) -> R:
        """A record; MissingError where its file is absent, UsageError where it is broken."""
        path = self.file(kind.FILE)
        try:
            return codec.from_json(kind, read_object(path))
        except ValueError as error:
            raise UsageError(f"{path}: not as this version writes it: {error}") from None

    def read_or_new(self, kind: type[R]) -> R:
        """A record, or an empty one where there is no file yet."""
        return self.read(kind) if self.file(kind.FILE).is_file() else kind()

    def write(self, record: Record) -> None:
        """Write a record's file, with the keys that are there and that this version does not know."""
        path = self.file(record.FILE)
        data = codec.keep_unknown(type(record), object_or_empty(path), codec.to_json(record))
        # Before JSON escapes what it must: what reads the record back reads it redacted.
        whole = {"schema_version": SCHEMA_VERSION, **redaction.data(data)}
        text = redaction.text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
        if record.FILE not in contents.UNSEALED:
            self._announce(record.FILE, text)
        write_text(path, text)

    def _announce(self, name: str, text: str) -> None:
        """Tell the seal of an open stage what a record will hold: a kill on the way is no edit then."""
        seal = self.read_or_new(Seal)
        if seal.open is None:
            return
        files, pending = dict(seal.files), dict(seal.open.pending)
        if name in pending and self.file(name).is_file() and digest(self.file(name)) == pending[name]:
            files[name] = pending[name]
        pending[name] = hashlib.sha256(text.encode()).hexdigest()
        self.write(
            dataclasses.replace(seal, files=files, open=dataclasses.replace(seal.open, pending=pending))
        )

    def update(self, kind: type[R], **changes: Any) -> R:
        """Replace fields of a record, keeping the others."""
        record: R = dataclasses.replace(self.read_or_new(kind), **changes)
        self.write(record)
        return record

    def scenario(self, scenario: str) -> Path:
        return self.path / scenario

    def log_dir(self, scenario: str, mode: str) -> Path:
        """Where LoadGen writes: performance/run_1, accuracy or TEST06."""
        part = {"performance": "performance/run_1", "compliance": "TEST06"}.get(mode, mode)
        return self.scenario(scenario) / part
