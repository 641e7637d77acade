"""Everything that is installed in the environment: files against the wheels' lists, kept bytecode against its
source, versions against the lock files. vLLM imports a hundred packages, some where they happen to be there.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ...records.schema import InstalledPackages
from ...records.source import has_own_bytecode
from . import packages


def examine(site: Path) -> tuple[InstalledPackages, dict[str, str]]:
    """What lies in a site-packages folder; and of the distributions that no lock file names, which names they
    give to import: only one that is imported counts."""
    lists = {info: packages.rows(info) for info in sorted(site.glob("*.dist-info")) if _has_list(info)}
    known = {info for info in lists if _is_locked(info)}
    hashed = [row for info in known for row in lists[info] if packages.is_loaded(row[0])]
    listed = {path for rows in lists.values() for path, _ in rows}
    differing = [
        *(f"{path} (not in any wheel)" for path in _importable(site) if path not in listed),
        *_differing(site, hashed),
        *_other_bytecode(site, (path for path, _ in hashed)),
    ]
    total = hashlib.sha256()
    for info in sorted(known):
        lines = "".join(f"{path} {expected}\n" for path, expected in sorted(lists[info]))
        total.update(f"{info.name}\n{lines}".encode())
    record = InstalledPackages(
        len(known), len(hashed), total.hexdigest(), differing=tuple(sorted(differing)[: packages.MOST])
    )
    unlocked = {
        name: " ".join(packages.name_and_version(info))
        for info in lists.keys() - known
        for name in _names(path for path, _ in lists[info])
    }
    return record, unlocked


def imported(unlocked: Mapping[str, str], modules: Iterable[str]) -> tuple[str, ...]:
    """The distributions that no lock file names and of which a module was imported."""
    first = {module.partition(".")[0] for module in modules}
    return tuple(sorted({distribution for name, distribution in unlocked.items() if name in first}))


def _has_list(info: Path) -> bool:
    return (info / "RECORD").is_file()


def _is_locked(info: Path) -> bool:
    name, version = packages.name_and_version(info)
    return version in packages.locked(name)


def _names(paths: Iterable[str]) -> Iterator[str]:
    """What `import` would call the listed files' packages and modules."""
    for path in paths:
        folder, _, rest = path.partition("/")
        if packages.is_importable(path) and folder != "..":
            yield folder if rest else folder.partition(".")[0]


def _differing(site: Path, hashed: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Files that are as no wheel lists them: of one that two bring, the last to be installed stays."""
    brought_by, unlike = Counter(path for path, _ in hashed), Counter(packages.differing(site, hashed))
    for name, times in unlike.items():
        if times == brought_by[name.removesuffix(packages.GONE)]:
            yield name


def _importable(site: Path) -> Iterator[str]:
    """Every file below that Python would import, by its relative path; what it compiles itself aside."""
    for folder, folders, names in os.walk(site):
        folders[:] = [name for name in folders if name != "__pycache__"]
        base = os.path.relpath(folder, site)
        for name in filter(packages.is_importable, names):
            yield name if base == "." else f"{base}/{name}"


def _other_bytecode(site: Path, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if path.endswith(".py") and not has_own_bytecode(site / path):
            yield f"{path} (its bytecode is another's)"
