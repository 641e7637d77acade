"""The hash of the source: everything shipped that can change what a run does."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterator
from functools import cache
from importlib.util import cache_from_source
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


def other_bytecode(package: Path) -> list[str]:
    """Files of the package whose kept bytecode is not theirs: Python would run it in their place."""
    faults = []
    for path in sorted(package.rglob("*.py")):
        if not has_own_bytecode(path):
            faults.append(f"{path.relative_to(package).as_posix()} (its bytecode is another's)")
    return faults


def has_own_bytecode(path: Path) -> bool:
    """Whether what is kept of a file's bytecode, if anything, is what Python would make of it."""
    kept = Path(cache_from_source(str(path)))
    return not kept.is_file() or _is_of(kept.read_bytes(), path)


def _is_of(bytecode: bytes, path: Path) -> bool:
    """Whether bytecode is the source's, or is known to be older, which Python makes again."""
    flags, size_and_time = int.from_bytes(bytecode[4:8], "little"), bytecode[8:16]
    status = path.stat()
    now = (int(status.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
    if flags == 0 and size_and_time != now + (status.st_size & 0xFFFFFFFF).to_bytes(4, "little"):
        return True
    try:
        kept = marshal.loads(bytecode[16:])
    except (EOFError, ValueError, TypeError):
        return False
    return bool(kept == compile(path.read_bytes(), str(path), "exec", dont_inherit=True))


def _below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(
            part == _MADE or part.startswith(".") for part in path.relative_to(folder).parts
        ):
            yield path
