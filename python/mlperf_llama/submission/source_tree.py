"""The source of a submission: what git tracks in this repository, or the package alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

GIT_TIMEOUT_S = 30.0
# Where git cannot say: the folders of the source.
FOLDERS = ("python", "docker", "scripts", "locks", "docs", "benchmarks")
PACKAGE = Path(__file__).resolve().parents[1]


def root() -> Path | None:
    """The repository this package runs from; None where it is installed on its own."""
    return next((p for p in PACKAGE.parents if (p / "pyproject.toml").is_file()), None)


def files(repository: Path) -> list[Path]:
    """Files git tracks under `repository`; without git, every file of the known folders."""
    command = ["git", "-C", str(repository), "ls-files", "-z"]
    # Of this repository, whatever another one the caller's variables name.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, env=env, capture_output=True, timeout=GIT_TIMEOUT_S, check=True)
        names = [Path(n) for n in done.stdout.decode().split("\0") if n]
        if names:
            return [n for n in names if (repository / n).is_file()]
    except (OSError, subprocess.SubprocessError):
        pass
    paths = [p for p in repository.glob("*") if p.is_file() and not p.name.startswith(".env")]
    for folder in FOLDERS:
        paths += [p for p in (repository / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    return [p.relative_to(repository) for p in paths]


def copy(target: Path) -> None:
    """Copy the source into `target`."""
    repository = root()
    if repository is None:
        shutil.copytree(PACKAGE, target / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        return
    for name in files(repository):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository / name, target / name)
