"""Disk, memory, CPU, GPU with its driver, and the container engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ..config import Config
from ..machine import needs
from ..machine.driver import GIB
from ..machine.gpu_table import capability_of
from ..machine.gpus import ONE_OF, REPAIR, summary
from ..records.schema import System
from .finding import FAIL, OK, WARN, Finding
from .software import chosen_build

# CUDA 13's oldest driver (CUDA Toolkit release notes, table of minimum versions) and oldest chip, Turing.
OLDEST_DRIVER = 580
OLDEST_CAPABILITY = 7.5
# Free space: what the smallest run leaves behind, and Llama's 16 GB of weights with the dataset.
LEAST_DISK_GIB, FULL_DISK_GIB = 2.0, 25.0
# The stand-in with vLLM on the CPU, and what makes it comfortable.
LEAST_MEMORY_GIB, GOOD_MEMORY_GIB = 4.0, 8.0
# Weights of Llama-3.1-8B in 16 bits, with a small KV cache.
FULL_GPU_GIB = 18.0
DOCKER_TIMEOUT_S = 4.0


def _existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    path = path.expanduser().absolute()
    return next(p for p in (path, *path.parents) if os.path.exists(p))


def _disk(name: str, path: Path, full_gib: float) -> Finding:
    folder = _existing(path)
    try:
        free = shutil.disk_usage(folder).free / GIB
    except OSError as error:
        return Finding(name, FAIL, f"{folder} cannot be read: {error.strerror}", "name another folder")
    text = f"{free:.1f} GiB free for {path}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(name, FAIL, f"{folder} cannot be written", "name another folder, or repair its rights")
    if free < LEAST_DISK_GIB:
        return Finding(name, FAIL, text, f"free at least {LEAST_DISK_GIB:g} GiB, or name another folder")
    if free < full_gib:
        return Finding(name, WARN, text, f"Llama-3.1-8B's weights and data need {full_gib:g} GiB")
    return Finding(name, OK, text)


def _memory(system: System) -> Finding:
    memory = system.memory
    sizes = [size for size in (memory.available_gib, memory.limit_gib) if size is not None]
    if not sizes:
        return Finding("memory", WARN, "cannot be read here", "see to 8 GiB or more")
    usable = min(sizes)
    text = f"{usable:.1f} GiB usable of {memory.total_gib or 0:.1f}"
    if usable < LEAST_MEMORY_GIB:
        return Finding(
            "memory", FAIL, text, f"the smallest run needs {LEAST_MEMORY_GIB:g} GiB: end other programs"
        )
    if usable < GOOD_MEMORY_GIB:
        return Finding("memory", WARN, text, "set SAMPLES to a small number")
    return Finding("memory", OK, text)


def _cpu(system: System, build: str) -> Finding:
    cpu = system.cpu
    features = cpu.features
    text = f"{cpu.model or cpu.architecture}, {cpu.usable_threads} threads"
    text += f", {' '.join(features)}" if features else ""
    if build == "cuda" or cpu.architecture not in ("x86_64", "AMD64"):
        return Finding("CPU", OK, text)
    if "avx2" not in features:
        return Finding("CPU", FAIL, f"{text}: no AVX2", "vLLM's CPU build needs AVX2: use another machine")
    if "avx512f" not in features:
        return Finding("CPU", WARN, text, "without AVX-512 the CPU build is slow: a small SAMPLES helps")
    return Finding("CPU", OK, text)


def _gpu(config: Config, env: Mapping[str, str], system: System, build: str) -> Finding:
    level = FAIL if build == "cuda" else WARN
    if not system.gpus:
        return _no_gpu(config, env, system, build)
    text, first = _in_words(system), system.gpus[0]
    major = str(first.driver).split(".")[0]
    if first.driver is not None and (not major.isdigit() or int(major) < OLDEST_DRIVER):
        return Finding("GPU", level, text, f"CUDA 13 needs driver {OLDEST_DRIVER} or newer: update it")
    capability = capability_of(first)
    if capability is not None and capability < OLDEST_CAPABILITY:
        return Finding("GPU", level, text, "CUDA 13 no longer knows this chip: MLPERF_TARGET=cpu")
    if build == "cpu":
        return Finding(
            "GPU", WARN, f"{text}: not used by the CPU build", "MLPERF_TARGET=cuda make run uses it"
        )
    if system.gpu_failure:
        return Finding("GPU", WARN, f"{system.gpu_failure}; usable: {text}", REPAIR)
    if first.memory_gib is not None and first.memory_gib < FULL_GPU_GIB:
        return Finding("GPU", WARN, text, "Llama-3.1-8B in 16 bits does not fit: set QUANTIZATION")
    return Finding("GPU", OK, text, *_advice(system))


def _no_gpu(config: Config, env: Mapping[str, str], system: System, build: str) -> Finding:
    if system.gpu_failure:
        needless = config.engine != "vllm" or env.get("MLPERF_TARGET", "").lower() == "cpu"
        remedy = f"{REPAIR}; MLPERF_TARGET=cpu runs on the CPU"
        return Finding("GPU", WARN if needless else FAIL, system.gpu_failure, remedy)
    level = FAIL if build == "cuda" else OK
    if system.gpu_choice:
        remedy = "name one that `nvidia-smi -L` lists, or unset CUDA_VISIBLE_DEVICES"
        return Finding("GPU", level, f"none is visible to CUDA: {system.gpu_choice}", remedy)
    remedy = "install the NVIDIA driver, or MLPERF_TARGET=cpu" if build == "cuda" else ""
    return Finding("GPU", level, "none answers: the CPU build runs", remedy)


def _in_words(system: System) -> str:
    """Which GPUs CUDA will use, their driver, the memory of the first, and why these."""
    first = system.gpus[0]
    memory = "memory unknown" if first.memory_gib is None else f"{first.memory_gib} GiB"
    shared = " shared with the system" if first.shared_memory else ""
    choice = f" ({system.gpu_choice})" if system.gpu_choice else ""
    return f"{summary(system.gpus)}, driver {first.driver or 'unknown'}, {memory}{shared}{choice}"


def _advice(system: System) -> tuple[str, ...]:
    """What to set where unlike GPUs leave open which one is used."""
    if any(gpu.name == ONE_OF for gpu in system.gpus):
        return ("CUDA_DEVICE_ORDER=PCI_BUS_ID makes the numbers those of nvidia-smi",)
    if len({gpu.name for gpu in system.gpus}) > 1:
        return (f"the first one is used, {system.gpus[0].name}: CUDA_VISIBLE_DEVICES names another",)
    return ()


def _docker(env: Mapping[str, str], system: System) -> Finding:
    command = env.get("MLPERF_DOCKER") or "docker"
    if system.container.inside:
        return Finding("container engine", OK, "this is a container")
    level = WARN if system.gpus else OK
    remedy = "the native path runs without it" if system.gpus else ""
    if shutil.which(command, path=env.get("PATH")) is None:
        return Finding("container engine", level, f"no {command} here: runs are native", remedy)
    question = [command, "info", "--format", "{{json .Runtimes}}"]
    try:
        done = subprocess.run(question, capture_output=True, text=True, timeout=DOCKER_TIMEOUT_S, check=True)
        runtimes = json.loads(done.stdout or "{}") or {}
    except (OSError, subprocess.SubprocessError, ValueError):
        remedy = "start it, or join its group; until then runs are native"
        return Finding("container engine", level, f"{command} is here, its engine does not answer", remedy)
    if system.gpus and "nvidia" not in runtimes and not Path("/etc/cdi/nvidia.yaml").exists():
        remedy = "install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure`"
        return Finding("container engine", WARN, f"{command} answers, without NVIDIA's runtime", remedy)
    return Finding("container engine", OK, f"{command} answers")


def _needs(config: Config) -> list[Finding]:
    """What an engine takes for granted."""
    listed = []
    for name, need in needs.of(config).items():
        detail, _, remedy = need().partition("; ")
        listed.append(Finding(name, FAIL if detail else OK, detail or "works", remedy))
    return listed


def findings(config: Config, env: Mapping[str, str], system: System) -> list[Finding]:
    build = chosen_build(env, system)
    return [
        _disk("disk for the cache", config.cache_path, FULL_DISK_GIB),
        _disk("disk for results", Path(config.results_dir), LEAST_DISK_GIB),
        _memory(system),
        _cpu(system, build),
        _gpu(config, env, system, build),
        _docker(env, system),
        *_needs(config),
    ]
