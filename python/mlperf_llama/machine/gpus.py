"""NVIDIA GPUs as they are and as they run: through NVML where it can be had, else nvidia-smi.

A machine without a GPU gives an empty list, never an error.
"""

from __future__ import annotations

import csv
import io
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any

GIB = 1024**3
# The most NVLink links any card has (nvml.h: NVML_NVLINK_MAX_LINKS).
NVLINKS = 18
# nvidia-smi takes seconds when its persistence daemon is off.
SMI_TIMEOUT_S = 10.0
SMI_FIELDS = {
    "index": "index", "name": "name", "uuid": "uuid", "memory_mib": "memory.total",
    "driver": "driver_version", "power_limit_w": "power.limit", "max_sm_clock_mhz": "clocks.max.sm",
    "max_memory_clock_mhz": "clocks.max.memory", "pcie_generation": "pcie.link.gen.max",
    "pcie_width": "pcie.link.width.max", "compute_capability": "compute_cap",
}  # fmt: skip


def nvml() -> Any | None:
    """The initialised pynvml module, or None where it or the driver is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return None
    return pynvml


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _maybe(read: Callable[[], Any]) -> Any:
    """NVML raises for whatever a card or driver does not support: unknown is None."""
    try:
        return read()
    except Exception:
        return None


def _scaled(value: Any, factor: float, digits: int) -> float | None:
    return None if value is None else round(value * factor, digits)


def _nvlinks(lib: Any, handle: Any) -> int | None:
    """Active NVLink links; None where the card has none or cannot tell."""

    def active(link: int) -> bool:
        return bool(_maybe(lambda: lib.nvmlDeviceGetNvLinkState(handle, link)))

    return sum(active(link) for link in range(NVLINKS)) or None


def _cuda_version(lib: Any) -> str | None:
    found = _maybe(lambda: lib.nvmlSystemGetCudaDriverVersion_v2())
    return None if found is None else f"{found // 1000}.{found % 1000 // 10}"


def _describe_one(lib: Any, index: int) -> dict[str, Any]:
    handle = lib.nvmlDeviceGetHandleByIndex(index)
    memory = _maybe(lambda: lib.nvmlDeviceGetMemoryInfo(handle).total)
    capability = _maybe(lambda: lib.nvmlDeviceGetCudaComputeCapability(handle))
    limit_mw = _maybe(lambda: lib.nvmlDeviceGetEnforcedPowerLimit(handle))
    return {
        "index": index,
        "name": _text(lib.nvmlDeviceGetName(handle)),
        "uuid": _text(_maybe(lambda: lib.nvmlDeviceGetUUID(handle))),
        "memory_gib": _scaled(memory, 1 / GIB, 2),
        "driver": _text(lib.nvmlSystemGetDriverVersion()),
        "cuda": _cuda_version(lib),
        "compute_capability": f"{capability[0]}.{capability[1]}" if capability else None,
        "power_limit_w": _scaled(limit_mw, 1e-3, 1),
        "max_sm_clock_mhz": _maybe(lambda: lib.nvmlDeviceGetMaxClockInfo(handle, lib.NVML_CLOCK_SM)),
        "max_memory_clock_mhz": _maybe(lambda: lib.nvmlDeviceGetMaxClockInfo(handle, lib.NVML_CLOCK_MEM)),
        "pcie_generation": _maybe(lambda: lib.nvmlDeviceGetMaxPcieLinkGeneration(handle)),
        "pcie_width": _maybe(lambda: lib.nvmlDeviceGetMaxPcieLinkWidth(handle)),
        "nvlink_links": _nvlinks(lib, handle),
        "ecc": _maybe(lambda: bool(lib.nvmlDeviceGetEccMode(handle)[0])),
        "mig": _maybe(lambda: bool(lib.nvmlDeviceGetMigMode(handle)[0])),
        "source": "nvml",
    }


def parse_smi(text: str) -> list[dict[str, Any]]:
    """Rows of `nvidia-smi --query-gpu` (csv, no header, no units) in SMI_FIELDS' order."""

    def number(value: str) -> float | None:
        try:
            return float(value)
        except ValueError:
            return None

    found = []
    for row in csv.reader(io.StringIO(text), skipinitialspace=True):
        if len(row) != len(SMI_FIELDS):
            continue
        given = {k: v.strip() for k, v in zip(SMI_FIELDS, row, strict=True)}
        words = {k: given[k] for k in ("name", "uuid", "driver", "compute_capability")}
        memory = number(given["memory_mib"])
        numbers = {k: number(v) for k, v in given.items() if k not in words and k != "memory_mib"}
        index = int(numbers.pop("index") or 0)
        gpu = {"index": index, **words, "memory_gib": _scaled(memory, 1 / 1024, 2), "cuda": None}
        found.append({**gpu, **numbers, "nvlink_links": None, "source": "nvidia-smi"})
    return found


def _smi() -> list[dict[str, Any]]:
    query = "--query-gpu=" + ",".join(SMI_FIELDS.values())
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_smi(done.stdout)


def describe() -> list[dict[str, Any]]:
    """Every NVIDIA GPU of this machine; empty where there is none."""
    lib = nvml()
    if lib is None:
        return _smi()
    try:
        return [_describe_one(lib, n) for n in range(lib.nvmlDeviceGetCount())]
    except Exception:
        return _smi()
    finally:
        with suppress(Exception):
            lib.nvmlShutdown()


def read_one(lib: Any, index: int) -> dict[str, Any]:
    """One GPU's present state; what it cannot tell is null."""
    handle = lib.nvmlDeviceGetHandleByIndex(index)
    memory = _maybe(lambda: lib.nvmlDeviceGetMemoryInfo(handle).used)
    return {
        "index": index,
        "power_w": _scaled(_maybe(lambda: lib.nvmlDeviceGetPowerUsage(handle)), 1e-3, 1),
        "sm_clock_mhz": _maybe(lambda: lib.nvmlDeviceGetClockInfo(handle, lib.NVML_CLOCK_SM)),
        "temperature_c": _maybe(lambda: lib.nvmlDeviceGetTemperature(handle, lib.NVML_TEMPERATURE_GPU)),
        "utilisation_percent": _maybe(lambda: lib.nvmlDeviceGetUtilizationRates(handle).gpu),
        "memory_used_gib": _scaled(memory, 1 / GIB, 2),
    }


class GpuSampler:
    """Reads every GPU in a thread; `latest` is the events' `gpu` field, None without a GPU.

    The reading happens off the timed path: an event only picks up what is there.
    """

    def __init__(self, interval_s: float = 2.0, library: Callable[[], Any | None] = nvml) -> None:
        self._interval_s, self._library = interval_s, library
        self._latest: list[dict[str, Any]] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def latest(self) -> list[dict[str, Any]] | None:
        return self._latest

    def start(self) -> GpuSampler:
        lib = self._library()
        count = (_maybe(lib.nvmlDeviceGetCount) or 0) if lib is not None else 0
        if count:
            self._thread = threading.Thread(target=self._run, args=(lib, count), name="gpu", daemon=True)
            self._thread.start()
        return self

    def _run(self, lib: Any, count: int) -> None:
        while not self._stop.is_set():
            readings = [_maybe(partial(read_one, lib, n)) for n in range(count)]
            self._latest = [r for r in readings if r is not None] or None
            self._stop.wait(self._interval_s)

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(timeout=5)

    def __enter__(self) -> GpuSampler:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def summary(gpus: list[Mapping[str, Any]]) -> str:
    """`4 x NVIDIA H100 80GB HBM3`, or every name where they differ."""
    counted: dict[str, int] = {}
    for gpu in gpus:
        counted[str(gpu.get("name"))] = counted.get(str(gpu.get("name")), 0) + 1
    return ", ".join(f"{count} x {name}" for name, count in counted.items()) or "none"
