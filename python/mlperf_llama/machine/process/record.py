"""What a process is made of, recorded while its engine loads: variables, start files, packages."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ... import __version__
from ...records.schema import ImportedPackage, PythonProcess
from ...records.source import PACKAGE, source_sha256
from . import installed, packages, startup, variables

# What each engine imports beside this package.
ENGINE_PACKAGES: Mapping[str, tuple[str, ...]] = {"vllm": ("vllm", "torch")}


class Recorder:
    """Begins before the engine is loaded and ends before anything is timed. `files`: of packages beside the
    engine's, each with the file that is imported; `folders`: further ones that are the environment's own;
    `given`: the environment before anything of the engine was imported, where that is not now. `thorough`:
    everything that is installed is looked at, ten seconds of one core."""

    def __init__(
        self,
        engine: str,
        files: Mapping[str, str | None],
        folders: Iterable[Path] = (),
        given: Mapping[str, str] | None = None,
        thorough: bool = False,
    ) -> None:
        given = os.environ if given is None else given
        self._time = datetime.now(UTC).isoformat(timespec="seconds")
        of_engine = {name: packages.file_of(name) for name in ENGINE_PACKAGES.get(engine, ())}
        self._given = variables.relevant(given)
        self._preloaded = startup.preloaded(given, startup.environment_at_start())
        own = (*startup.environment_folders(), *folders)
        site = Path(sysconfig.get_path("purelib")) if of_engine and thorough else None
        self._examination = packages.Examination({**of_engine, **files}, own, site)

    def finish(self) -> PythonProcess:
        """With what loading the engine added to the variables (vLLM preloads its own allocator into its
        workers, for one). Waits for the packages' hashes."""
        now = variables.relevant(os.environ)
        examined = self._examination.finish()
        imported = [_as_imported(package) for package in examined.packages]
        unlocked = installed.imported(examined.unlocked, sys.modules)
        return PythonProcess(
            time=self._time,
            executable=sys.executable,
            flags=startup.flags(),
            path=tuple(sys.path),
            foreign_path=startup.foreign_path(sys.path),
            start_files=(*startup.start_files(sys.modules, sys.path), *startup.plugins(sys.path)),
            preloaded=self._preloaded,
            variables=self._given,
            engine_variables={n: v for n, v in now.items() if v != self._given.get(n)},
            packages=(_own_package(examined.own_bytecode), *imported),
            installed=examined.installed and replace(examined.installed, unlocked=unlocked),
        )


def _own_package(differing: tuple[str, ...]) -> ImportedPackage:
    file = str(PACKAGE / "__init__.py")
    return ImportedPackage("mlperf_llama", file, __version__, sha256=source_sha256(), differing=differing)


def _as_imported(package: ImportedPackage) -> ImportedPackage:
    """The package whose file was hashed must be the one that this process imported."""
    module = sys.modules.get(package.name)
    file = getattr(module, "__file__", None)
    if module is None or file == package.file:
        return package
    return replace(package, foreign=True, differing=(*package.differing, f"imported from {file}"))
