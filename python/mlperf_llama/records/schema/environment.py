"""environment.json: the Python processes of a run, and what they imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .fields import absent


@dataclass(frozen=True)
class ImportedPackage:
    """A package that the measuring process, or LoadGen's child, imported. `file`: where from; `version`: of
    the distribution that lies beside it, and `locked` as the lock file has it. `sha256`: one hash of its
    wheel's file list; `files`: how many of it were hashed, `differing` those that are not as the list says.
    `foreign`: it does not belong to this Python's environment."""

    name: str
    file: str | None
    version: str | None = None
    locked: tuple[str, ...] = ()
    sha256: str | None = None
    files: int = 0
    differing: tuple[str, ...] = ()
    foreign: bool = False


@dataclass(frozen=True)
class InstalledPackages:
    """The environment's distributions that a lock file names. `files`: how many of theirs were hashed;
    `sha256`: one hash of their wheels' file lists; `differing`: files that are not as listed, that no wheel
    brought, or whose bytecode is another's; `unlocked`: distributions that no lock file names, of which
    something was imported."""

    distributions: int
    files: int
    sha256: str
    differing: tuple[str, ...] = ()
    unlocked: tuple[str, ...] = ()


@dataclass(frozen=True)
class PythonProcess:
    """The process that measured, or that of a `member`. `flags`: Python's that keep the caller's folders
    away; `path`: where it imports from; `foreign_path`: folders of it that are not of its environment;
    `start_files`: what else ran at its start; `preloaded`: libraries put before all others. `variables`:
    those that libraries or Python read, as they were given, without secrets; `engine_variables`: what loading
    the engine set. `installed`: of a run that is not shortened."""

    time: str
    executable: str
    flags: dict[str, bool] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    foreign_path: tuple[str, ...] = ()
    start_files: tuple[str, ...] = ()
    preloaded: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    engine_variables: dict[str, str] = field(default_factory=dict)
    packages: tuple[ImportedPackage, ...] = ()
    member: int | None = absent()
    installed: InstalledPackages | None = absent()


@dataclass(frozen=True)
class Environment:
    """One process for each time that the run was started or resumed, and one for each member."""

    FILE: ClassVar[str] = "environment.json"
    processes: tuple[PythonProcess, ...] = ()
