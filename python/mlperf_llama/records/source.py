"""The hash of the source: everything shipped that can change what a run does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from .files import digest

PACKAGE = Path(__file__).resolve().parents[1]
# Beside the package in a checkout and in the image: what starts it, and what its environment is made from.
BESIDE = ("Makefile", "entrypoint.sh", "run_all.sh", "pyproject.toml", "docker", "locks", "scripts")
# What Python makes itself. Bytecode elsewhere is imported as source is, a package of it before a module.
_MADE = "__pycache__"


@cache
def source_sha256() -> str:
    """One hash of this package's files and of what is shipped beside it: which code made the run.

    Taken once per process: a file edited later is not what runs.
    """
    return sha256_of(PACKAGE, PACKAGE.parents[1])


def sha256_of(package: Path, root: Path) -> str:
    """`root`: the checkout; a package that is installed on its own is hashed alone."""
    total = hashlib.sha256()
    for path in files(package, root):
        name = path.relative_to(package.parent if path.is_relative_to(package) else root)
        total.update(f"{name.as_posix()} {digest(path)}\n".encode())
    return total.hexdigest()


def files(package: Path, root: Path) -> Iterator[Path]:
    """Every shipped file, in order."""
    yield from _below(package)
    if (root / "entrypoint.sh").is_file():
        for name in BESIDE:
            path = root / name
            yield from [path] if path.is_file() else _below(path)


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(
            part == _MADE or part.startswith(".") for part in path.relative_to(folder).parts
        ):
            yield path
