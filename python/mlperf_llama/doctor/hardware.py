"""Disk, memory, CPU, GPU with its driver, and the container engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config import Config
from ..machine.gpus import summary
from .finding import FAIL, OK, WARN, Finding
from .software import lane

GIB = 1024**3
# CUDA 13's oldest driver (CUDA Toolkit release notes, table of minimum versions) and oldest chip, Turing.
OLDEST_DRIVER = 580
OLDEST_CAPABILITY = (7, 5)
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
    return next(p for p in (path, *path.parents) if p.exists())


def _disk(name: str, path: Path, full_gib: float) -> Finding:
    place = _existing(path)
    try:
        free = shutil.disk_usage(place).free / GIB
    except OSError as error:
        return Finding(name, FAIL, f"{place} cannot be read: {error.strerror}", "name another folder")
    text = f"{free:.1f} GiB free for {path}"
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding(name, FAIL, f"{place} cannot be written", "name another folder, or mend its rights")
    if free < LEAST_DISK_GIB:
        return Finding(name, FAIL, text, f"free at least {LEAST_DISK_GIB:g} GiB, or name another folder")
    if free < full_gib:
        return Finding(name, WARN, text, f"Llama-3.1-8B's weights and data need {full_gib:g} GiB")
    return Finding(name, OK, text)


def _memory(found: Mapping[str, Any]) -> Finding:
    memory = found["memory"]
    sizes = [memory[k] for k in ("available_gib", "limit_gib") if memory[k] is not None]
    if not sizes:
        return Finding("memory", WARN, "cannot be read here", "see to 8 GiB or more")
    usable = min(sizes)
    text = f"{usable:.1f} GiB usable of {memory['total_gib'] or 0:.1f}"
    if usable < LEAST_MEMORY_GIB:
        return Finding(
            "memory", FAIL, text, f"the smallest run needs {LEAST_MEMORY_GIB:g} GiB: end other programs"
        )
    if usable < GOOD_MEMORY_GIB:
        return Finding("memory", WARN, text, "set SAMPLES to a small number")
    return Finding("memory", OK, text)


def _cpu(found: Mapping[str, Any], asked: str) -> Finding:
    cpu = found["cpu"]
    features = cpu["features"]
    text = f"{cpu['model'] or cpu['architecture']}, {cpu['usable_threads']} threads"
    text += f", {' '.join(features)}" if features else ""
    if asked == "cuda" or cpu["architecture"] not in ("x86_64", "AMD64"):
        return Finding("CPU", OK, text)
    if "avx2" not in features:
        return Finding("CPU", FAIL, f"{text}: no AVX2", "vLLM's CPU build needs AVX2: use another machine")
    if "avx512f" not in features:
        return Finding("CPU", WARN, text, "without AVX-512 the CPU lane is slow: a small SAMPLES helps")
    return Finding("CPU", OK, text)


def _gpu(found: Mapping[str, Any], asked: str) -> Finding:
    gpus = found["gpus"]
    level = FAIL if asked == "cuda" else WARN
    if not gpus:
        remedy = "install the NVIDIA driver, or MLPERF_TARGET=cpu" if asked == "cuda" else ""
        return Finding("GPU", FAIL if asked == "cuda" else OK, "none answers: the CPU lane runs", remedy)
    first = gpus[0]
    text = f"{summary(gpus)}, driver {first['driver']}, {first['memory_gib']} GiB"
    major = str(first["driver"]).split(".")[0]
    if not major.isdigit() or int(major) < OLDEST_DRIVER:
        return Finding("GPU", level, text, f"CUDA 13 needs driver {OLDEST_DRIVER} or newer: update it")
    capability = tuple(int(p) for p in str(first["compute_capability"] or "").split(".") if p.isdigit())
    if capability and capability < OLDEST_CAPABILITY:
        return Finding("GPU", level, text, "CUDA 13 no longer knows this chip: MLPERF_TARGET=cpu")
    if asked == "cpu":
        return Finding(
            "GPU", WARN, f"{text}: not used by the CPU lane", "MLPERF_TARGET=cuda make run uses it"
        )
    if (first["memory_gib"] or 0) < FULL_GPU_GIB:
        return Finding("GPU", WARN, text, "Llama-3.1-8B in 16 bits does not fit: set QUANTIZATION")
    return Finding("GPU", OK, text)


def _docker(env: Mapping[str, str], found: Mapping[str, Any]) -> Finding:
    command = env.get("MLPERF_DOCKER") or "docker"
    if found["container"]["inside"]:
        return Finding("container engine", OK, "this is a container")
    level = WARN if found["gpus"] else OK
    remedy = "the native path runs without it" if found["gpus"] else ""
    if shutil.which(command, path=env.get("PATH")) is None:
        return Finding("container engine", level, f"no {command} here: runs are native", remedy)
    asked = [command, "info", "--format", "{{json .Runtimes}}"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=DOCKER_TIMEOUT_S, check=True)
        runtimes = json.loads(done.stdout or "{}") or {}
    except (OSError, subprocess.SubprocessError, ValueError):
        remedy = "start it, or join its group; until then runs are native"
        return Finding("container engine", level, f"{command} is here, its engine does not answer", remedy)
    if found["gpus"] and "nvidia" not in runtimes and not Path("/etc/cdi/nvidia.yaml").exists():
        remedy = "install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure`"
        return Finding("container engine", WARN, f"{command} answers, without NVIDIA's runtime", remedy)
    return Finding("container engine", OK, f"{command} answers")


def findings(config: Config, env: Mapping[str, str], found: Mapping[str, Any]) -> list[Finding]:
    asked = lane(env, found)
    return [
        _disk("disk for the cache", config.cache_path, FULL_DISK_GIB),
        _disk("disk for results", Path(config.results_dir), LEAST_DISK_GIB),
        _memory(found),
        _cpu(found, asked),
        _gpu(found, asked),
        _docker(env, found),
    ]
