"""Runs MLCommons' own submission checker, where it can be found.

It is not part of this repository: it comes from a checkout the user names, from the
image, or from a clone at the pinned commit, made once into the cache.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config import Config
from ..errors import MissingError
from ..sources.fetch import cached

REPOSITORY = "https://github.com/mlcommons/inference"
COMMIT = "b66003e10e2db4b8c36a448b0545ec90fcc6e9e9"
IMAGE_DIR = Path("/opt/mlcommons/inference")
TOOLS = Path("tools/submission")
CLONE_TIMEOUT_S = 120.0
CHECK_TIMEOUT_S = 1800.0
TRACEBACK = "Traceback (most recent call last):"
FRAME = re.compile(r'\s*File "(.+)", line (\d+), in (.+)')
LAST_READ = re.compile(
    r"(?:Loading|Could not load) \w+ log from (.+?)(?:, path does not exist)?$", re.MULTILINE
)
ACCEPTED, REFUSED = "SUMMARY: submission looks OK", "SUMMARY: submission has errors"


@dataclass(frozen=True)
class Outcome:
    """What the official checker reported: its verdict, its complaints, all of its output."""

    accepted: bool
    complaints: tuple[str, ...]
    output: str


def find(config: Config) -> Path:
    """The checkout of mlcommons/inference; MissingError with what was tried."""
    named = Path(config.inference_dir).expanduser() if config.inference_dir else None
    if named is not None:
        if _has_checker(named):
            return named
        raise MissingError(f"INFERENCE_DIR: expected a checkout of mlcommons/inference, found {named}")
    if _has_checker(IMAGE_DIR):
        return IMAGE_DIR
    clone = config.cache_path / f"mlcommons-inference-{COMMIT[:12]}"
    cached.provide(clone, _clone, lambda folder: "" if _has_checker(folder) else "no checker in it")
    return clone


def _has_checker(path: Path) -> bool:
    return (path / TOOLS / "submission_checker" / "main.py").is_file()


def _clone(work: Path) -> None:
    """Fetch the pinned commit alone, the checker's files only."""
    for command in (
        ["git", "init", "-q"],
        ["git", "sparse-checkout", "set", str(TOOLS)],
        ["git", "fetch", "-q", "--depth=1", "--filter=blob:none", REPOSITORY, COMMIT],
        ["git", "checkout", "-q", COMMIT],
    ):
        try:
            subprocess.run(command, cwd=work, capture_output=True, timeout=CLONE_TIMEOUT_S, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or str(error).encode()
            reason = output.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise MissingError(
                f"MLCommons' checker: expected {REPOSITORY} at {COMMIT[:12]}, could not fetch it "
                f"({reason[0]}); set INFERENCE_DIR to a checkout"
            ) from None


def run(
    checkout: Path, tree: Path, round_name: str, submitter: str | None, env: Mapping[str, str]
) -> Outcome:
    """Run the checker on a tree. `submitter` None checks every submitter in it."""
    with tempfile.TemporaryDirectory(prefix="mlperf-check-") as scratch:
        command = [
            sys.executable,
            "-m",
            "submission_checker.main",
            f"--input={tree.absolute()}",
            f"--version={round_name}",
            f"--csv={scratch}/summary.csv",
        ]
        if submitter:
            command.append(f"--submitter={submitter}")
        environment = {**env, "PYTHONPATH": str(checkout / TOOLS), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command, cwd=scratch, env=environment, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return Outcome(False, (f"no verdict within {CHECK_TIMEOUT_S:g} s",), "")
    output = done.stdout + done.stderr
    accepted = done.returncode == 0 and ACCEPTED in output and REFUSED not in output
    return Outcome(accepted, _complaints(output, accepted), output)


def _complaints(output: str, accepted: bool) -> tuple[str, ...]:
    """Where it crashed, and its traceback; else its error lines, or the last of its output without any."""
    if not accepted and (crash := _crash(output)):
        return crash
    errors = [
        line
        for line in output.splitlines()
        if ":ERROR" in line or line.startswith("ERROR") or " ERROR]" in line
    ]
    if accepted or errors:
        return tuple(errors)
    return tuple(output.strip().splitlines()[-5:])


def _crash(output: str) -> tuple[str, ...]:
    """What it read last, where it stopped and why, and its traceback; empty where it came to its end."""
    before, mark, after = output.rpartition(TRACEBACK)
    if not mark or ACCEPTED in output or REFUSED in output:
        return ()
    lines = [line for line in after.strip().splitlines() if line.strip()]
    frames = [match.groups() for line in lines if (match := FRAME.match(line))]
    own = [frame for frame in frames if "submission_checker" in frame[0]] or frames
    place = f"{Path(own[-1][0]).name} line {own[-1][1]} ({own[-1][2]})" if own else "an unknown place"
    read = LAST_READ.findall(before)
    last = f"; it had last read {read[-1]}" if read else ""
    return (f"the checker crashed at {place}: {lines[-1] if lines else ''}{last}", mark, *lines[-8:])
