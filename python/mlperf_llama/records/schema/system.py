"""system.json and hosts.json: what ran, and where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .fields import absent


@dataclass(frozen=True)
class Machine:
    maker: str | None = None
    product: str | None = None


@dataclass(frozen=True)
class Cpu:
    """`features`: instruction sets that decide how fast vLLM's CPU build is."""

    model: str | None = None
    vendor: str | None = None
    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    features: tuple[str, ...] = ()
    usable_threads: int | None = None
    max_clock_mhz: int | None = None
    numa_nodes: int | None = None
    architecture: str | None = None


@dataclass(frozen=True)
class Memory:
    """`limit_gib`: the container's (cgroup v2)."""

    total_gib: float | None = None
    available_gib: float | None = None
    limit_gib: float | None = None


@dataclass(frozen=True)
class OperatingSystem:
    name: str | None = None
    kernel: str | None = None
    libc: str | None = None


@dataclass(frozen=True)
class Disk:
    name: str
    kind: str
    size_gb: float


@dataclass(frozen=True)
class NetworkInterface:
    name: str
    speed_mbit_s: int | None = None


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; what it cannot tell is None. `source`: nvml or nvidia-smi; None where it is one of
    several and not known which. `shared_memory`: its memory is the system's."""

    index: int = 0
    name: str = ""
    uuid: str | None = None
    memory_gib: float | None = None
    driver: str | None = None
    cuda: str | None = None
    compute_capability: str | None = None
    power_limit_w: float | None = None
    max_sm_clock_mhz: int | float | None = None
    max_memory_clock_mhz: int | float | None = None
    pcie_generation: int | float | None = None
    pcie_width: int | float | None = None
    nvlink_links: int | None = None
    ecc: bool | None = None
    mig: bool | None = None
    source: str | None = None
    shared_memory: bool | None = absent()


@dataclass(frozen=True)
class GpuReading:
    """One GPU's state at one moment. `member`: whose it is, where a run has several; each host counts its
    GPUs from 0."""

    index: int
    power_w: float | None = None
    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    utilisation_percent: float | None = None
    memory_used_gib: float | None = None
    member: int | None = absent()


@dataclass(frozen=True)
class PythonVersion:
    version: str | None = None
    implementation: str | None = None


@dataclass(frozen=True)
class Container:
    inside: bool | None = None
    image_id: str | None = None


@dataclass(frozen=True)
class System:
    """What ran. `gpus`: those that CUDA will use; `gpu_choice`: how they came to be chosen, where it is not
    simply all; `gpu_failure`: the driver's own words where a GPU is there and fails. `git`: commit, dirty,
    and from (git, or image: written by its build)."""

    FILE: ClassVar[str] = "system.json"
    machine: Machine = Machine()
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    os: OperatingSystem = OperatingSystem()
    storage: tuple[Disk, ...] = ()
    network: tuple[NetworkInterface, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    python: PythonVersion = PythonVersion()
    packages: dict[str, str] = field(default_factory=dict)
    loadgen: tuple[str, ...] = ()
    git: dict[str, str | bool | None] = field(default_factory=dict)
    container: Container = Container()
    gpu_choice: str | None = absent()
    gpu_failure: str | None = absent()


@dataclass(frozen=True)
class Hosts:
    """Where HOSTS names hosts: what each of them is, with the GPUs that the run uses there."""

    FILE: ClassVar[str] = "hosts.json"
    hosts: dict[str, System] = field(default_factory=dict)
