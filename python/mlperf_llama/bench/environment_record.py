"""environment.json: the process that measures, its variables, and where its packages came from."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__
from ..machine.process import packages, startup, variables
from ..records.run_folder import RunFolder
from ..records.schema import Environment, ImportedPackage, PythonProcess
from ..records.source import source_sha256

# What each engine imports beside LoadGen and this package.
ENGINE_PACKAGES: Mapping[str, tuple[str, ...]] = {"vllm": ("vllm", "torch")}


class Recorder:
    """Begins before the engine is loaded and ends before anything is timed."""

    def __init__(self, run: RunFolder, engine: str, loadgen_version: str) -> None:
        self._run, self._time = run, datetime.now(UTC).isoformat(timespec="seconds")
        release = Path(sys.prefix) / "loadgen" / loadgen_version
        library = next(iter(sorted(release.glob("mlperf_loadgen*.so"))), None)
        files = {name: packages.file_of(name) for name in ENGINE_PACKAGES.get(engine, ())}
        files["mlperf_loadgen"] = str(library) if library else None
        self._given = variables.relevant(os.environ)
        self._preloaded = startup.preloaded(os.environ, startup.environment_at_start())
        self._examination = packages.Examination(files, (*startup.environment_folders(), release))

    def finish(self) -> None:
        """Write the record, with what loading the engine added to the variables (vLLM preloads its own
        allocator into its workers, for one)."""
        now = variables.relevant(os.environ)
        found = [_as_imported(package) for package in self._examination.finish()]
        process = PythonProcess(
            time=self._time,
            executable=sys.executable,
            flags=startup.flags(),
            path=tuple(sys.path),
            foreign_path=startup.foreign_path(sys.path),
            start_files=startup.start_files(sys.modules, sys.path),
            preloaded=self._preloaded,
            variables=self._given,
            engine_variables={n: v for n, v in now.items() if v != self._given.get(n)},
            packages=(_own_package(), *found),
        )
        before = self._run.read_or_new(Environment).processes
        self._run.write(Environment((*before, process)))


def _own_package() -> ImportedPackage:
    file = str(Path(__file__).resolve().parents[1] / "__init__.py")
    return ImportedPackage("mlperf_llama", file, __version__, sha256=source_sha256())


def _as_imported(package: ImportedPackage) -> ImportedPackage:
    """The package whose file was hashed must be the one that this process imported."""
    module = sys.modules.get(package.name)
    file = getattr(module, "__file__", None)
    if module is None or file == package.file:
        return package
    return replace(package, foreign=True, differing=(*package.differing, f"imported from {file}"))
