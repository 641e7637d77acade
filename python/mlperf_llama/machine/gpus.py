"""NVIDIA GPUs as they are and as they run: through NVML where it can be had, else nvidia-smi.

A machine without a GPU gives an empty list, never an error.
"""

from __future__ import annotations

import csv
import io
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import ModuleType, TracebackType
from typing import TypeVar

from ..records.schema import Gpu, GpuReading

T = TypeVar("T")
GIB = 1024**3
# The most NVLink links any card has (nvml.h: NVML_NVLINK_MAX_LINKS).
NVLINKS = 18
# nvidia-smi takes seconds when its persistence daemon is off.
SMI_TIMEOUT_S = 10.0
SMI_FIELDS = {
    "index": "index", "name": "name", "uuid": "uuid", "memory_mib": "memory.total",
    "driver": "driver_version", "power_limit_w": "power.limit", "max_sm_clock_mhz": "clocks.max.sm",
    "max_memory_clock_mhz": "clocks.max.memory", "pcie_generation": "pcie.link.gen.max",
    "pcie_width": "pcie.link.width.max", "compute_capability": "compute_cap", "mig": "mig.mode.current",
}  # fmt: skip


def nvml() -> ModuleType | None:
    """The initialised pynvml module, or None where it or the driver is missing."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return None
    return pynvml  # type: ignore[no-any-return]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _maybe(read: Callable[[], T]) -> T | None:
    """NVML raises for whatever a card or driver does not support: unknown is None."""
    try:
        return read()
    except Exception:
        return None


def _scaled(value: float | None, factor: float, digits: int) -> float | None:
    return None if value is None else round(value * factor, digits)


def _nvlinks(lib: ModuleType, handle: object) -> int | None:
    """Active NVLink links; None where the card has none or cannot tell."""

    def active(link: int) -> bool:
        return bool(_maybe(lambda: lib.nvmlDeviceGetNvLinkState(handle, link)))

    return sum(map(active, range(NVLINKS))) or None


def _cuda_version(lib: ModuleType) -> str | None:
    version = _maybe(lambda: int(lib.nvmlSystemGetCudaDriverVersion_v2()))
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"


def _devices(lib: ModuleType, index: int) -> list[tuple[object, bool | None]]:
    """What CUDA can use of a card, and whether that is under MIG: its MIG instances, else the card."""
    card = lib.nvmlDeviceGetHandleByIndex(index)
    mig = _maybe(lambda: bool(lib.nvmlDeviceGetMigMode(card)[0]))
    most = (_maybe(lambda: int(lib.nvmlDeviceGetMaxMigDeviceCount(card))) or 0) if mig else 0

    def instance(slot: int) -> object:
        return _maybe(lambda: lib.nvmlDeviceGetMigDeviceHandleByIndex(card, slot))

    instances = [device for device in map(instance, range(most)) if device is not None]
    return [(device, mig) for device in instances or [card]]


def _describe_one(lib: ModuleType, index: int, device: object, mig: bool | None) -> Gpu:
    memory = _maybe(lambda: lib.nvmlDeviceGetMemoryInfo(device).total)
    capability = _maybe(lambda: lib.nvmlDeviceGetCudaComputeCapability(device))
    limit_mw = _maybe(lambda: lib.nvmlDeviceGetEnforcedPowerLimit(device))
    return Gpu(
        index=index,
        name=_text(lib.nvmlDeviceGetName(device)),
        uuid=_maybe(lambda: _text(lib.nvmlDeviceGetUUID(device))),
        memory_gib=_scaled(memory, 1 / GIB, 2),
        driver=_text(lib.nvmlSystemGetDriverVersion()),
        cuda=_cuda_version(lib),
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        power_limit_w=_scaled(limit_mw, 1e-3, 1),
        max_sm_clock_mhz=_maybe(lambda: lib.nvmlDeviceGetMaxClockInfo(device, lib.NVML_CLOCK_SM)),
        max_memory_clock_mhz=_maybe(lambda: lib.nvmlDeviceGetMaxClockInfo(device, lib.NVML_CLOCK_MEM)),
        pcie_generation=_maybe(lambda: lib.nvmlDeviceGetMaxPcieLinkGeneration(device)),
        pcie_width=_maybe(lambda: lib.nvmlDeviceGetMaxPcieLinkWidth(device)),
        nvlink_links=_nvlinks(lib, device),
        ecc=_maybe(lambda: bool(lib.nvmlDeviceGetEccMode(device)[0])),
        mig=mig,
        source="nvml",
    )


def parse_smi(text: str) -> list[Gpu]:
    """Rows of `nvidia-smi --query-gpu` (csv, no header, no units) in SMI_FIELDS' order."""
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    return [
        _smi_gpu(dict(zip(SMI_FIELDS, map(str.strip, row), strict=True)))
        for row in rows
        if len(row) == len(SMI_FIELDS)
    ]


def _smi_gpu(row: dict[str, str]) -> Gpu:
    def number(field: str) -> float | None:
        return _maybe(lambda: float(row[field]))

    def whole(field: str) -> int | None:
        return _maybe(lambda: int(row[field]))

    return Gpu(
        index=whole("index") or 0,
        name=row["name"],
        uuid=row["uuid"],
        memory_gib=_scaled(number("memory_mib"), 1 / 1024, 2),
        driver=row["driver"],
        compute_capability=row["compute_capability"],
        power_limit_w=number("power_limit_w"),
        max_sm_clock_mhz=whole("max_sm_clock_mhz"),
        max_memory_clock_mhz=whole("max_memory_clock_mhz"),
        pcie_generation=whole("pcie_generation"),
        pcie_width=whole("pcie_width"),
        mig={"Enabled": True, "Disabled": False}.get(row["mig"]),
        source="nvidia-smi",
    )


def _smi() -> list[Gpu]:
    query = "--query-gpu=" + ",".join(SMI_FIELDS.values())
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_smi(done.stdout)


def describe() -> list[Gpu]:
    """Every NVIDIA GPU of this machine, MIG instances one by one; empty where there is none."""
    lib = nvml()
    if lib is None:
        return _smi()
    try:
        cards = range(lib.nvmlDeviceGetCount())
        return [_describe_one(lib, n, device, mig) for n in cards for device, mig in _devices(lib, n)]
    except Exception:
        return _smi()
    finally:
        with suppress(Exception):
            lib.nvmlShutdown()


def read_one(lib: ModuleType, index: int) -> GpuReading:
    """One GPU's present state; what it cannot tell is None."""
    handle = lib.nvmlDeviceGetHandleByIndex(index)
    memory = _maybe(lambda: lib.nvmlDeviceGetMemoryInfo(handle).used)
    return GpuReading(
        index=index,
        power_w=_scaled(_maybe(lambda: lib.nvmlDeviceGetPowerUsage(handle)), 1e-3, 1),
        sm_clock_mhz=_maybe(lambda: lib.nvmlDeviceGetClockInfo(handle, lib.NVML_CLOCK_SM)),
        temperature_c=_maybe(lambda: lib.nvmlDeviceGetTemperature(handle, lib.NVML_TEMPERATURE_GPU)),
        utilisation_percent=_maybe(lambda: lib.nvmlDeviceGetUtilizationRates(handle).gpu),
        memory_used_gib=_scaled(memory, 1 / GIB, 2),
    )


class GpuSampler:
    """Reads every GPU in a thread; `latest` is the events' `gpu` field, None without a GPU.

    The reading happens off the timed path: an event only picks up what is there.
    """

    def __init__(self, interval_s: float = 2.0, library: Callable[[], ModuleType | None] = nvml) -> None:
        self._interval_s, self._library = interval_s, library
        self._latest: list[GpuReading] | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def latest(self) -> list[GpuReading] | None:
        return self._latest

    def start(self) -> GpuSampler:
        lib = self._library()
        count = (_maybe(lib.nvmlDeviceGetCount) or 0) if lib is not None else 0
        if count:
            self._thread = threading.Thread(target=self._run, args=(lib, count), name="gpu", daemon=True)
            self._thread.start()
        return self

    def _run(self, lib: ModuleType, count: int) -> None:
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


def summary(gpus: Sequence[Gpu]) -> str:
    """`4 x NVIDIA H100 80GB HBM3`, or every name where they differ."""
    counts = Counter(gpu.name for gpu in gpus)
    return ", ".join(f"{count} x {name}" for name, count in counts.items()) or "none"
