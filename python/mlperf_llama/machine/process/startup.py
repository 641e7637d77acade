"""What came into the process before our code: folders, start files, preloaded libraries."""

from __future__ import annotations

import csv
import os
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import psutil

from ...records.files import digest
from ..processes import PACKAGE_FOLDER
from .packages import hash_of, locked, name_and_version

PRELOAD_FILE = Path("/etc/ld.so.preload")
START_MODULES = ("sitecustomize", "usercustomize")
# Entry points that are imported at the start of vLLM, or when PyTorch or Triton is imported.
PLUGIN_GROUPS = ("vllm.", "torch.backends", "triton.backends")
PRELOADS = ("LD_PRELOAD", "LD_AUDIT")


def flags() -> dict[str, bool]:
    """Python's -P and -s: neither the caller's folder nor the user's own packages are looked at."""
    return {"safe_path": bool(sys.flags.safe_path), "no_user_site": bool(sys.flags.no_user_site)}


def environment_folders() -> tuple[Path, ...]:
    """Where this Python's own modules lie: the standard library, and its site-packages."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {Path(sysconfig.get_path(name)) for name in names}
    base = Path(sys.base_prefix) / "lib"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folders |= {base / version, base / f"{version}/lib-dynload", base / "python3/dist-packages"}
    folders.add(Path(sys.base_prefix) / f"{sys.platlibdir}/{version}")
    return tuple(folders)


def is_own(folder: str) -> bool:
    """Whether an entry of sys.path is this package's, the interpreter's or its environment's."""
    path = Path(folder)
    if path.suffix == ".zip" and path.name.startswith("python3"):
        return path.is_relative_to(sys.base_prefix)
    own = {known.resolve() for known in (*environment_folders(), PACKAGE_FOLDER)}
    return path.resolve() in own or _below_prefix(path)


def _below_prefix(path: Path) -> bool:
    """A folder of a package inside the environment's site-packages, as .pth files of its wheels name them, or
    a release of LoadGen."""
    places = (sysconfig.get_path("purelib"), sysconfig.get_path("stdlib"), str(Path(sys.prefix) / "loadgen"))
    return any(path.resolve().is_relative_to(Path(place).resolve()) for place in places)


def foreign_path(path: Sequence[str]) -> tuple[str, ...]:
    """Folders of sys.path that are not of the environment; an empty one is the working folder."""
    return tuple(folder or "." for folder in path if not folder or not is_own(folder))


def start_files(modules: Mapping[str, object], path: Sequence[str]) -> tuple[str, ...]:
    """sitecustomize and usercustomize, unless the system's Python brings them, and .pth files that no
    package of the lock files lists."""
    loaded = [str(getattr(modules[name], "__file__", name)) for name in START_MODULES if name in modules]
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    foreign = [file for file in loaded if Path(os.path.abspath(file)).parent.resolve() != stdlib]
    sites = [Path(folder) for folder in path if Path(folder).name in ("site-packages", "dist-packages")]
    return (*foreign, *(str(pth) for site in sites for pth in sorted(site.glob("*.pth")) if not _listed(pth)))


def _listed(pth: Path) -> bool:
    """Whether the file list of a wheel in the same folder, which a lock file names, has this file with its
    hash."""
    row = [pth.name, f"sha256={hash_of(digest(pth))}"]
    for record in pth.parent.glob("*.dist-info/RECORD"):
        text = record.read_text(encoding="utf-8", errors="replace")
        if pth.name in text and any(listed[:2] == row for listed in csv.reader(text.splitlines())):
            name, version = name_and_version(record.parent)
            if version in locked(name):
                return True
    return False


def plugins(path: Sequence[str]) -> tuple[str, ...]:
    """What vLLM, PyTorch and Triton load by themselves, as a wheel says that no lock file names."""
    return tuple(
        f"{entry.group} {entry.name} of {wheel.name} {wheel.version}, which no lock file names"
        for wheel in metadata.distributions(path=list(path))
        for entry in wheel.entry_points
        if entry.group.startswith(PLUGIN_GROUPS) and wheel.version not in locked(wheel.name)
    )


def preloaded(env: Mapping[str, str], at_start: Mapping[str, str]) -> tuple[str, ...]:
    """Libraries that the loader put before all others, by variable or by the system's file. `at_start`: the
    environment as the process was given it, which a preloaded library cannot take back."""
    named = {f"{name}={value}" for name in PRELOADS if (value := env.get(name) or at_start.get(name))}
    try:
        words = PRELOAD_FILE.read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        words = []
    return (*sorted(named), *(f"{PRELOAD_FILE}: {word}" for word in words))


def seconds_since_start() -> float:
    """How long this process has been running."""
    began: float = psutil.Process().create_time()
    return time.time() - began


def environment_at_start() -> dict[str, str]:
    """The environment that this process was started with; empty where the system does not tell."""
    try:
        entries = Path("/proc/self/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)
