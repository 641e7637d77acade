"""The CPUs beside a GPU: those of the memory node that its PCI slot belongs to."""

from __future__ import annotations

import os
from pathlib import Path

from . import nvml
from .driver import DriverError, limited, maybe

SYSFS = Path("/sys/bus/pci/devices")


def cpus_beside(gpu: str) -> tuple[int, ...] | None:
    """Of those that this process may use. `gpu`: as CUDA_VISIBLE_DEVICES names it, of several the first.
    None where it is not known, or where no CPU beside it may be used."""
    try:
        bus = limited("NVML", lambda: _bus_id(gpu.split(",")[0].strip()))
    except DriverError:
        return None
    if bus is None:
        return None
    beside = set(local_cpus(bus, SYSFS)) & os.sched_getaffinity(0)
    return tuple(sorted(beside)) or None


def _bus_id(gpu: str) -> str | None:
    lib = nvml.load()
    if lib is None:
        return None

    def handle() -> object:
        if gpu.isdecimal():
            return lib.nvmlDeviceGetHandleByIndex(int(gpu))
        device = lib.nvmlDeviceGetHandleByUUID(gpu)
        return lib.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device) if gpu.startswith("MIG-") else device

    bus = maybe(lambda: lib.nvmlDeviceGetPciInfo(handle()).busId)
    return bus.decode() if isinstance(bus, bytes) else bus


def local_cpus(bus: str, sysfs: Path) -> tuple[int, ...]:
    """What the kernel lists for a slot such as 00000000:1B:00.0; empty where it lists none."""
    domain, _, rest = bus.lower().partition(":")
    try:
        text = (sysfs / f"{domain[-4:]}:{rest}" / "local_cpulist").read_text()
    except OSError:
        return ()
    return parse_cpus(text)


def parse_cpus(text: str) -> tuple[int, ...]:
    """The kernel's list format, as 0-3,8."""
    cpus: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return tuple(cpus)
