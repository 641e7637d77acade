"""Checks of what the measuring process was made of: start, variables, packages, commit, GPUs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .. import rules
from ..machine.process import variables
from ..records.schema import Check, Environment, ImportedPackage, InstalledPackages, PythonProcess
from .check import check, first
from .evidence import Evidence

COMMIT = re.compile(r"[0-9a-f]{40}")
# Packages that each engine's record must hold.
NEEDED = {"vllm": ("mlperf_llama", "mlperf_loadgen", "vllm", "torch")}
ALWAYS = ("mlperf_llama", "mlperf_loadgen")
# A member has the engine alone.
LOADGEN = ("mlperf_loadgen",)
# What the driver's library told of a GPU, machine/nvml.py marks so.
NVML = "nvml"
# Wheels that a lock file names; this package is hashed with the source.
UNLOCKED = ("mlperf_llama",)


def checks(evidence: Evidence) -> list[Check]:
    processes = evidence.environment.processes
    presets = [load.preset.environment for load in evidence.engine_loads.loads if load.preset]
    of_presets = [fault for environment in presets for fault in variables.faults(environment)]
    engine = evidence.engine_name
    needed = NEEDED.get(str(engine), ALWAYS)
    # A shortened run is never submitted, and does not take the time.
    whole = "vllm" in needed and not evidence.provenance.shortened

    def every(name: str, faults_of: Callable[[PythonProcess], list[str]], good: str, fix: str) -> Check:
        faults = list(dict.fromkeys(fault for process in processes for fault in faults_of(process)))
        if not processes:
            return Check(name, False, f"no {Environment.FILE}", "run again with this version")
        return check(name, not faults, first(faults) or good, fix)

    return [
        every(
            "python_start",
            _start,
            "nothing of the caller's folders, no start file of others",
            "start with make or entrypoint.sh, and take the named folders and files away",
        ),
        every("preload", lambda p: list(p.preloaded), "no library was preloaded", "unset what is named"),
        every(
            "variables",
            lambda p: [*variables.faults(p.variables, str(Path(p.executable).parents[1])), *of_presets],
            "none that is known or may be feared to change a result",
            "unset what is named",
        ),
        every(
            "packages",
            lambda p: _packages(p, needed, whole),
            f"{', '.join(needed)}: from the environment, as their wheels and the lock files say",
            "make the environment again from the lock files (make clean, then make run), without PACKAGES",
        ),
        _commit(evidence),
        _gpu(evidence),
    ]


def _start(process: PythonProcess) -> list[str]:
    faults = [
        f"{name} is off" for name in ("safe_path", "no_user_site") if process.flags.get(name) is not True
    ]
    faults += [f"imports from {folder}" for folder in process.foreign_path]
    return faults + [f"started by {file}" for file in process.start_files]


def _packages(process: PythonProcess, needed: tuple[str, ...], whole: bool) -> list[str]:
    packages = {package.name: package for package in process.packages}
    if process.member is not None:
        needed = tuple(name for name in needed if name not in LOADGEN)
    missing = [f"{name} is not recorded" for name in needed if name not in packages]
    faults = [fault for name in needed if name in packages for fault in _package(packages[name])]
    return [*missing, *faults, *(_installed(process.installed) if whole else ())]


def _installed(installed: InstalledPackages | None) -> list[str]:
    """vLLM imports most of what its environment holds."""
    if installed is None or not installed.files:
        return ["what is installed beside them is not recorded"]
    faults = [f"the environment: {', '.join(installed.differing)}"] if installed.differing else []
    return faults + [f"{package}, which no lock file names, was imported" for package in installed.unlocked]


def _package(package: ImportedPackage) -> list[str]:
    faults = []
    if package.foreign:
        faults.append(f"{package.name} from {package.file}, which is not the environment's")
    if package.differing:
        faults.append(f"{package.name}: not as its wheel: {', '.join(package.differing)}")
    if package.name in UNLOCKED:
        return faults
    if not package.files:
        faults.append(f"{package.name}: nothing of it was hashed")
    if package.version not in package.locked:
        locked = " or ".join(package.locked) or "none"
        faults.append(f"{package.name} {package.version}, the lock files have {locked}")
    return faults


def _commit(evidence: Evidence) -> Check:
    """What ran can be had again: a commit, and no change that it does not hold."""
    git = evidence.system.git
    commit, dirty = str(git.get("commit") or ""), git.get("dirty")
    built = git.get("from") == "image" and not dirty
    known = COMMIT.fullmatch(commit) is not None and (dirty is False or built)
    local = " with local changes" if dirty or "dirty" in commit else ""
    # The commit was recorded where the folder was made.
    made = evidence.stages[0].source if evidence.stages else None
    other = any(source != made for source in evidence.sources)
    measured = ", but other source measured than made the run folder" if other else ""
    return check(
        "commit",
        known and not other,
        f"{commit or 'unknown'}{local}{measured}",
        "run from a clean checkout, or an image built from one",
    )


def _gpu(evidence: Evidence) -> Check:
    """A datacenter result comes from GPUs that this machine told of, and that the engine used."""
    count = len(evidence.system.gpus)
    if evidence.category != rules.DATACENTER:
        return check("gpu", True, f"{count} GPUs, none is required of {evidence.category}", "")
    devices = {_device(load.resolved) for load in evidence.engine_loads.loads if load.resolved}
    names = ", ".join(gpu.name for gpu in evidence.system.gpus) or "no GPU was found"
    used = ", ".join(sorted(devices)) or "an unknown device"
    # vLLM's CUDA build asks NVML too; the command nvidia-smi is whatever PATH finds.
    untold = [gpu.name for gpu in evidence.system.gpus if gpu.source != NVML]
    described = f", {len(untold)} of them not as the driver's library describes them" if untold else ""
    return check(
        "gpu",
        count > 0 and devices == {"cuda"} and not untold,
        f"{names}{described}; the engine ran on {used}",
        "run on an NVIDIA GPU; `make doctor` says whether one answers",
    )


def _device(resolved: dict[str, object]) -> str:
    config = resolved.get("device_config")
    return str(config.get("device_type")) if isinstance(config, dict) else "an unknown device"
