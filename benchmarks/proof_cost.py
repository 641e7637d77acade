"""What the proofs cost of a run: `MLPERF_VENV=... python proof_cost.py [NAME=value ...]`.

Runs `entrypoint.sh run` with these settings (MLPERF_NAME), by default ENGINE=fake, in an environment whose
Python counts the seconds in each proof and leaves them in a file as its process ends. Prints a Markdown
table: seconds (as they passed, and of a processor) and calls of each proof over all processes of the run, and
the run's whole time. A proof that another one calls counts in the outer one alone; that of the packages is
waited for by another thread.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "PROOF_COST_FOLDER"
# The proof's name in the table: module and function of this package's.
PROOFS = {
    "hash of the source": ("records.source", "source_sha256"),
    "seal: before a stage": ("records.seal", "_enter"),
    "seal: after a stage": ("records.seal", "_end"),
    "seal: around a LoadGen run": ("records.seal", "_flush"),
    "seal: before a record is written": ("records.run_folder", "RunFolder._announce"),
    "commit and local changes": ("machine.system", "source"),
    "variables, start files, preloads": ("machine.process.record", "Recorder.__init__"),
    "packages and bytecode: waiting for them": ("machine.process.packages", "Examination.finish"),
    "start files and plug-ins": ("machine.process.startup", "start_files"),
    "weights: hashes": ("sources.model.checkpoint", "hash_files"),
    "weights: what the file system says": ("sources.model.unchanged", "states"),
}
# A Python that starts this file in the place of `-m mlperf_llama`.
PYTHON = """#!/bin/bash
words=()
for word; do
    if [[ $word == -m ]]; then words+=({here}); else words+=("$word"); fi
done
[[ "$*" != *"-m mlperf_llama "* ]] || set -- "${{words[@]}}"
exec -a "$0" {python} "$@"
"""


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


class Clock:
    """Seconds, seconds of a processor and calls by proof; the outermost counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.cpu_seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._inside = False

    def timed(self, name: str, work: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if self._inside:
                return work(*arguments, **named)
            self._inside, began, busy = True, time.perf_counter(), cpu_seconds()
            try:
                return work(*arguments, **named)
            finally:
                self._inside = False
                self.seconds[name] += time.perf_counter() - began
                self.cpu_seconds[name] += cpu_seconds() - busy
                self.calls[name] += 1

        return call

    def save(self) -> None:
        path = Path(os.environ[FOLDER]) / f"{os.getpid()}.json"
        path.write_text(json.dumps([self.seconds, self.cpu_seconds, self.calls]))


def inside() -> None:
    """In the run's processes."""
    clock = Clock()
    for name, (module, path) in PROOFS.items():
        owner: object = importlib.import_module(f"mlperf_llama.{module}")
        *classes, function = path.split(".")
        for each in classes:
            owner = getattr(owner, each)
        timed = clock.timed(name, getattr(owner, function))
        setattr(owner, function, timed)
        # Modules that took the function by its name.
        for other in [m for n, m in sys.modules.items() if n.startswith("mlperf_llama")]:
            if not classes and function in vars(other):
                setattr(other, function, timed)
    atexit.register(clock.save)
    from mlperf_llama.__main__ import main

    sys.argv = ["mlperf_llama", *sys.argv[2:]]
    sys.exit(main(sys.argv[1:]))


def measured(settings: dict[str, str]) -> None:
    own = Path(os.environ.get("MLPERF_VENV", ROOT / ".venv"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "venv/bin").mkdir(parents=True)
        for entry in own.iterdir():
            if entry.name != "bin":
                (folder / "venv" / entry.name).symlink_to(entry)
        python = folder / "venv/bin/python"
        python.write_text(PYTHON.format(here=__file__, python=os.path.realpath(own / "bin/python")))
        python.chmod(0o755)
        (folder / "times").mkdir()
        variables = {f"MLPERF_{key}": value for key, value in {"ENGINE": "fake", **settings}.items()}
        env = {**os.environ, **variables, FOLDER: str(folder / "times"), "MLPERF_ENV_FILE": "/dev/null"}
        env |= {"MLPERF_VENV": str(folder / "venv"), "MLPERF_RESULTS_DIR": str(folder / "results")}
        began = time.monotonic()
        subprocess.run([ROOT / "entrypoint.sh", "run"], env=env, cwd=ROOT, check=True, stdout=sys.stderr)
        whole = time.monotonic() - began
        tables = [json.loads(path.read_text()) for path in (folder / "times").glob("*.json")]
    print("| proof | seconds | of a processor | calls |\n| --- | --- | --- | --- |")
    rows = {proof: [sum(t[kind].get(proof, 0) for t in tables) for kind in range(3)] for proof in PROOFS}
    for proof, (seconds, busy, calls) in rows.items():
        print(f"| {proof} | {seconds:.3f} | {busy:.3f} | {calls} |")
    seconds, busy, _ = (sum(values) for values in zip(*rows.values(), strict=True))
    print(f"| all proofs | {seconds:.2f} | {busy:.2f} | |")
    print(f"| the run | {whole:.1f} | | |")


if __name__ == "__main__":
    if FOLDER in os.environ:
        inside()
    else:
        measured(dict(word.split("=", 1) for word in sys.argv[1:]))
