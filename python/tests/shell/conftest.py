"""Scripts run as processes, in a copy of the repository's front door with stubs around it.

A stub writes its name and arguments to one log, then does what its plan says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 60.0
# Plan of a stub: a list of [words that its command line starts with, what to do]. First match counts.
STUB = f"""#!{sys.executable} -I
import json, os, shutil, sys, time
call = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open(os.environ["STUB_LOG"], "a") as log:
    log.write(json.dumps(call) + "\\n")
line = " ".join(call)
for start, act in json.loads(os.environ.get("STUB_PLAN", "[]")):
    if line.startswith(start):
        if act.get("copy"):
            os.makedirs(os.path.dirname(act["copy"].format(last=call[-1])), exist_ok=True)
            shutil.copy(sys.argv[0], act["copy"].format(last=call[-1]))
        if "env" in act:
            print(json.dumps({{k: v for k, v in os.environ.items() if k.startswith("MLPERF_")}}))
        print(act.get("out", ""), end="", flush=True)
        print(act.get("err", ""), end="", file=sys.stderr, flush=True)
        time.sleep(act.get("sleep", 0))
        sys.exit(act.get("code", 0))
"""


@dataclass
class Sandbox:
    """A private HOME, a stub folder first on PATH, a copy of the scripts."""

    root: Path
    home: Path
    stubs: Path
    log: Path
    venv: Path
    plan: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def stub(self, *names: str, folder: Path | None = None) -> None:
        for name in names:
            path = (folder or self.stubs) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_text(STUB)
            path.chmod(0o755)

    def on(self, start: str, **act: Any) -> None:
        """What a stub does whose command line starts so. Later plans come first."""
        self.plan.insert(0, (start, act))

    def env(self, extra: Mapping[str, str]) -> dict[str, str]:
        return {
            "HOME": str(self.home),
            "PATH": f"{self.stubs}:/usr/bin:/bin",
            "MLPERF_VENV": str(self.venv),
            "STUB_LOG": str(self.log),
            "STUB_PLAN": json.dumps(self.plan),
            "LC_ALL": "C",
            **extra,
        }

    def start(self, *command: str, **extra: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.env(extra),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **extra: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*command, **extra)
        out, err = process.communicate(timeout=DEADLINE_S)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def calls(self) -> list[str]:
        """Every stub's command line so far, in order."""
        if not self.log.exists():
            return []
        return [" ".join(json.loads(line)) for line in self.log.read_text().splitlines()]

    def words(self) -> list[Sequence[str]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def interrupt(
        self, command: Sequence[str], number: signal.Signals, when: str, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """Start, wait for a stub's call that starts with `when`, signal the script's process alone."""
        process = self.start(*command, **extra)
        wait_for(lambda: any(c.startswith(when) for c in self.calls()), f"no call of {when}")
        process.send_signal(number)
        out, err = process.communicate(timeout=DEADLINE_S)
        return subprocess.CompletedProcess(command, process.returncode, out, err)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def alive(marker: str) -> list[int]:
    """Processes whose environment or command line holds `marker`, ours aside."""
    pids = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in text:
            pids.append(int(entry.name))
    return pids


@pytest.fixture
def sandbox(tmp_path: Path) -> Sandbox:
    root = tmp_path / "repo"
    for pattern in ("Makefile", "*.sh", "locks/*.lock", "scripts/*.sh", "docker/*.sh"):
        for source in ROOT.glob(pattern):
            target = root / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    box = Sandbox(root, tmp_path / "home", tmp_path / "stubs", tmp_path / "calls.log", tmp_path / "venv")
    box.home.mkdir()
    box.stub("docker", "nvidia-smi")
    box.on("nvidia-smi", code=9)
    # What belongs to the container or installs packages is watched, not run.
    box.stub("run.sh", "build.sh", folder=root / "docker")
    box.stub("environment.sh", folder=root / "scripts")
    return box
