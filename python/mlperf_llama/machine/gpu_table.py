"""What a GPU's product name stands for: rates of its data sheet, and the preset that fits it.

The table is gpus.toml. Every question about a GPU by its name is asked here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..records.schema import Gpu

TABLE = Path(__file__).with_name("gpus.toml")
# GPUs without memory of their own, which is the system's: DGX Spark's GB10 and Jetson's modules (NVIDIA's
# CUDA for Tegra and DGX Spark guides).
INTEGRATED = re.compile(r"\b(gb10|orin|xavier|thor)\b", re.IGNORECASE)
# A card reports a little less than its data sheet says: driver and ECC take a part.
MEMORY_MATCH = 0.93
NVIDIA = "NVIDIA"


@dataclass(frozen=True)
class GpuSpec:
    """One card: rates in TFLOP/s by precision, GB/s, GB, W. `preset` None: none fits it. `capability` None:
    no card of NVIDIA's."""

    name: str
    maker: str
    match: tuple[str, ...]
    exclude: tuple[str, ...]
    preset: str | None
    capability: float | None
    rates: Mapping[str, float]
    bandwidth: float
    memory: float
    power: float
    source: str
    sustained: Mapping[str, float]


def may_draw_desktop(name: str) -> bool:
    """Whether a desktop may take a part of the card's memory: GeForce and RTX, but for server editions."""
    lower = name.lower()
    return ("geforce" in lower or "rtx" in lower) and "server" not in lower


@cache
def specs() -> tuple[GpuSpec, ...]:
    """The cards of the table, in order."""
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    return tuple(_spec(entry, table["exclude"]) for entry in table["gpu"])


def _spec(entry: Mapping[str, Any], exclude: list[str]) -> GpuSpec:
    return GpuSpec(
        name=entry["name"],
        maker=entry.get("maker", NVIDIA),
        match=tuple(re.escape(word) for word in entry["match"]),
        exclude=(*exclude, *entry.get("exclude", ())),
        preset=entry.get("preset"),
        capability=entry.get("capability"),
        rates={rate: float(entry[rate]) for rate in ("fp16", "fp8", "int8") if rate in entry},
        bandwidth=entry["bandwidth"],
        memory=entry["memory"],
        power=entry["power"],
        source=entry["source"],
        sustained=entry.get("sustained", {}),
    )


def shares_system_memory(gpu: Gpu) -> bool:
    """Whether its memory is the system's for certain."""
    return not gpu.mig and INTEGRATED.search(gpu.name) is not None


def capability_of(gpu: Gpu) -> float | None:
    """CUDA's compute capability, such as 8.9; None where the GPU does not tell."""
    text = gpu.compute_capability or ""
    return float(text) if re.fullmatch(r"\d+\.\d", text) else None


def find_gpu(gpu: Gpu) -> GpuSpec | None:
    """The card that a GPU is the whole of; None where it is another, a smaller one or a part of one."""
    if gpu.mig:
        return None
    name = gpu.name.lower()

    def has(word: str) -> bool:
        return re.search(rf"(?<![a-z0-9])(?:{word})(?![a-z0-9])", name) is not None

    def fits(spec: GpuSpec) -> bool:
        small = gpu.memory_gib is not None and gpu.memory_gib < MEMORY_MATCH * spec.memory
        return not small and all(map(has, spec.match)) and not any(map(has, spec.exclude))

    return next((spec for spec in specs() if fits(spec)), None)
