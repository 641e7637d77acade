"""GPUs through NVML, the driver's library: what they are, and one reading of how they run."""

from __future__ import annotations

from contextlib import suppress
from types import ModuleType

from ..records.schema import Gpu, GpuReading
from .driver import GIB, Card, maybe, scaled, without_instances

# The most NVLink links any card has (nvml.h: NVML_NVLINK_MAX_LINKS).
NVLINKS = 18


def load() -> ModuleType | None:
    """The initialised pynvml module, or None where it or the driver is missing or fails."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return None
    return pynvml  # type: ignore[no-any-return]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _nvlinks(lib: ModuleType, handle: object) -> int | None:
    """Active NVLink links; None where the card has none or cannot tell."""

    def active(link: int) -> bool:
        return bool(maybe(lambda: lib.nvmlDeviceGetNvLinkState(handle, link)))

    return sum(map(active, range(NVLINKS))) or None


def _cuda_version(lib: ModuleType) -> str | None:
    version = maybe(lambda: int(lib.nvmlSystemGetCudaDriverVersion_v2()))
    return None if version is None else f"{version // 1000}.{version % 1000 // 10}"


def _uuid(lib: ModuleType, handle: object) -> str | None:
    return maybe(lambda: _text(lib.nvmlDeviceGetUUID(handle)))


def _instances(lib: ModuleType, card: object) -> list[object]:
    most = maybe(lambda: int(lib.nvmlDeviceGetMaxMigDeviceCount(card))) or 0

    def instance(slot: int) -> object:
        return maybe(lambda: lib.nvmlDeviceGetMigDeviceHandleByIndex(card, slot))

    return [device for device in map(instance, range(most)) if device is not None]


def _card(lib: ModuleType, index: int) -> Card:
    try:
        handle = lib.nvmlDeviceGetHandleByIndex(index)
        name = _text(lib.nvmlDeviceGetName(handle))
    except Exception as error:
        return Card(failure=f"GPU {index}: NVML: {error}")
    mig = maybe(lambda: bool(lib.nvmlDeviceGetMigMode(handle)[0]))
    devices = _instances(lib, handle) if mig else [handle]
    uuid = _uuid(lib, handle)
    if not devices:
        return Card(uuid, failure=without_instances(index, name))
    return Card(uuid, tuple(_describe(lib, index, device, name, mig) for device in devices))


def _describe(lib: ModuleType, index: int, device: object, card: str, mig: bool | None) -> Gpu:
    memory = maybe(lambda: lib.nvmlDeviceGetMemoryInfo(device).total)
    capability = maybe(lambda: lib.nvmlDeviceGetCudaComputeCapability(device))
    limit_mw = maybe(lambda: lib.nvmlDeviceGetEnforcedPowerLimit(device))
    return Gpu(
        index=index,
        name=maybe(lambda: _text(lib.nvmlDeviceGetName(device))) or card,
        uuid=_uuid(lib, device),
        memory_gib=scaled(memory or None, 1 / GIB, 2),
        driver=maybe(lambda: _text(lib.nvmlSystemGetDriverVersion())),
        cuda=_cuda_version(lib),
        compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
        power_limit_w=scaled(limit_mw, 1e-3, 1),
        max_sm_clock_mhz=maybe(lambda: lib.nvmlDeviceGetMaxClockInfo(device, lib.NVML_CLOCK_SM)),
        max_memory_clock_mhz=maybe(lambda: lib.nvmlDeviceGetMaxClockInfo(device, lib.NVML_CLOCK_MEM)),
        pcie_generation=maybe(lambda: lib.nvmlDeviceGetMaxPcieLinkGeneration(device)),
        pcie_width=maybe(lambda: lib.nvmlDeviceGetMaxPcieLinkWidth(device)),
        nvlink_links=_nvlinks(lib, device),
        ecc=maybe(lambda: bool(lib.nvmlDeviceGetEccMode(device)[0])),
        mig=mig,
        source="nvml",
    )


def cards() -> list[Card] | None:
    """Every card in NVML's order, which is that of the PCI bus; None where NVML cannot tell."""
    lib = load()
    if lib is None:
        return None
    try:
        return [_card(lib, index) for index in range(lib.nvmlDeviceGetCount())]
    except Exception:
        return None
    finally:
        with suppress(Exception):
            lib.nvmlShutdown()


def handle_of(lib: ModuleType, gpu: Gpu) -> object | None:
    """By UUID where there is one: an index is the card's, not a MIG instance's. None: it cannot be told."""
    if gpu.uuid:
        return maybe(lambda: lib.nvmlDeviceGetHandleByUUID(gpu.uuid))
    if gpu.mig or not gpu.source:
        return None
    return maybe(lambda: lib.nvmlDeviceGetHandleByIndex(gpu.index))


def read_one(lib: ModuleType, handle: object, index: int = 0) -> GpuReading:
    """One GPU's present state; what it cannot tell is None."""
    memory = maybe(lambda: lib.nvmlDeviceGetMemoryInfo(handle).used)
    return GpuReading(
        index=index,
        power_w=scaled(maybe(lambda: lib.nvmlDeviceGetPowerUsage(handle)), 1e-3, 1),
        sm_clock_mhz=maybe(lambda: lib.nvmlDeviceGetClockInfo(handle, lib.NVML_CLOCK_SM)),
        temperature_c=maybe(lambda: lib.nvmlDeviceGetTemperature(handle, lib.NVML_TEMPERATURE_GPU)),
        utilisation_percent=maybe(lambda: lib.nvmlDeviceGetUtilizationRates(handle).gpu),
        memory_used_gib=scaled(memory, 1 / GIB, 2),
    )


def energy_j(lib: ModuleType, handle: object) -> float | None:
    """Joules since the driver was loaded; None where the card has no such counter (before Volta)."""
    return scaled(maybe(lambda: lib.nvmlDeviceGetTotalEnergyConsumption(handle)), 1e-3, 3)
