"""environment.json: the process that measures, its variables, and where its packages came from."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from ..machine.process import record
from ..records.run_folder import RunFolder
from ..records.schema import Environment, PythonProcess


class Recorder:
    """Begins before the engine is loaded and ends before anything is timed. `given`: the environment before
    anything of the engine was imported; `thorough`: everything that is installed is looked at."""

    def __init__(
        self, run: RunFolder, engine: str, loadgen_version: str, given: Mapping[str, str], thorough: bool
    ) -> None:
        self._run = run
        release = Path(sys.prefix) / "loadgen" / loadgen_version
        library = next(iter(sorted(release.glob("mlperf_loadgen*.so"))), None)
        files = {"mlperf_loadgen": str(library) if library else None}
        self._recorder = record.Recorder(engine, files, [release], given, thorough)

    def wait(self) -> PythonProcess:
        """Until the packages are hashed; in a thread. The caller adds the record: one whose hashing an
        interruption has ended says nothing of a process that measured nothing."""
        return self._recorder.finish()

    def add(self, process: PythonProcess) -> None:
        add(self._run, process)


def add(run: RunFolder, *processes: PythonProcess) -> None:
    """After those of before."""
    run.write(Environment((*run.read_or_new(Environment).processes, *processes)))
