"""GPUs through the command nvidia-smi, where NVML cannot be had; and its own words where the driver fails."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..records.schema import Gpu
from . import driver
from .driver import Card, DriverError, maybe, scaled, without_instances

# The first five are known to every driver.
FIELDS = {
    "index": "index", "name": "name", "uuid": "uuid", "memory_mib": "memory.total",
    "driver": "driver_version", "power_limit_w": "power.limit", "max_sm_clock_mhz": "clocks.max.sm",
    "max_memory_clock_mhz": "clocks.max.memory", "pcie_generation": "pcie.link.gen.max",
    "pcie_width": "pcie.link.width.max", "compute_capability": "compute_cap", "mig": "mig.mode.current",
}  # fmt: skip
OLDEST_FIELDS = 5
# Its exit codes (nvidia-smi's manual): an unknown field; no device; the driver is not loaded; no library.
UNKNOWN_FIELD, NO_DEVICE, NO_DRIVER, NO_LIBRARY = 2, 6, 9, 12
PCI_DEVICES = Path("/sys/bus/pci/devices")
NVIDIA, DISPLAY = "0x10de", "0x03"
# A line of `nvidia-smi -L`: a card, or below it one of its MIG instances.
LISTED = re.compile(r"\s*(?P<kind>GPU|MIG)\s.*\(UUID:\s*(?P<uuid>[^)\s]+)\)")
# What it prints for a value that a card does not tell: [N/A], [Not Supported], [Unknown Error].
UNKNOWN = re.compile(r"\[.*\]|N/A|ERR!|")


def _ask(*options: str) -> tuple[int, str, str]:
    """Exit code, stdout, stderr. A process that the driver holds cannot be ended: nobody waits for it."""
    try:
        process = subprocess.Popen(
            ["nvidia-smi", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise DriverError(f"nvidia-smi cannot be started: {error.strerror}") from None
    try:
        out, err = process.communicate(timeout=driver.LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise DriverError(f"nvidia-smi has not answered in {driver.LIMIT_S:g} s") from None
    return process.returncode, out, err


def _query(fields: Sequence[str]) -> tuple[int, str, str]:
    return _ask("--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits")


def parse(text: str) -> list[Gpu]:
    """Rows of `nvidia-smi --query-gpu` (csv, no header, no units) in FIELDS' order, or its first columns."""
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    return [
        _gpu(dict(zip(FIELDS, map(str.strip, row), strict=False)))
        for row in rows
        if OLDEST_FIELDS <= len(row) <= len(FIELDS) and row[0].strip().isdigit()
    ]


def _gpu(row: dict[str, str]) -> Gpu:
    def known(field: str) -> str | None:
        value = row.get(field, "")
        return None if UNKNOWN.fullmatch(value) else value

    def number(field: str) -> float | None:
        return maybe(lambda: float(row[field]))

    def whole(field: str) -> int | None:
        return maybe(lambda: int(row[field]))

    mig = {"Enabled": True, "Disabled": False}.get(row.get("mig", ""))
    return Gpu(
        index=whole("index") or 0,
        name=known("name") or "NVIDIA GPU",
        uuid=known("uuid"),
        # Under MIG the card's memory is that of no instance.
        memory_gib=None if mig else scaled(number("memory_mib") or None, 1 / 1024, 2),
        driver=known("driver"),
        compute_capability=known("compute_capability"),
        power_limit_w=number("power_limit_w"),
        max_sm_clock_mhz=whole("max_sm_clock_mhz"),
        max_memory_clock_mhz=whole("max_memory_clock_mhz"),
        pcie_generation=whole("pcie_generation"),
        pcie_width=whole("pcie_width"),
        mig=mig,
        source="nvidia-smi",
    )


def _instances(gpu: Gpu, listing: str) -> tuple[Gpu, ...]:
    """The MIG instances of a card out of `nvidia-smi -L`; their memory is not listed."""
    instances, inside = [], False
    for line in listing.splitlines():
        match = LISTED.match(line)
        if match and match["kind"] == "GPU":
            inside = match["uuid"] == gpu.uuid
        elif match and inside:
            profile = line.split()[1]
            instances.append(
                replace(gpu, name=f"{gpu.name} MIG {profile}", uuid=match["uuid"], power_limit_w=None)
            )
    return tuple(instances)


def _card(gpu: Gpu, listing: str) -> Card:
    if not gpu.mig:
        return Card(gpu.uuid, (gpu,))
    instances = _instances(gpu, listing)
    return Card(gpu.uuid, instances, None if instances else without_instances(gpu.index, gpu.name))


def _has_device() -> bool:
    """Whether the PCI bus has an NVIDIA GPU, with or without a driver."""

    def word(path: Path) -> str:
        return maybe(path.read_text) or ""

    devices = PCI_DEVICES.glob("*")
    return any(
        word(device / "vendor").strip() == NVIDIA and word(device / "class").startswith(DISPLAY)
        for device in devices
    )


def _with_gaps(gpus: Sequence[Gpu], cards: Sequence[Card], failing: Card) -> list[Card]:
    """The cards at their places in the driver's list, with a failing one wherever it left a number out."""
    by_index = {gpu.index: card for gpu, card in zip(gpus, cards, strict=True)}
    whole = [by_index.get(index, failing) for index in range(max(by_index) + 1)]
    return whole if failing in whole else [*whole, failing]


def cards() -> list[Card]:
    """Every card in nvidia-smi's order, which is that of the PCI bus. Raises DriverError."""
    if shutil.which("nvidia-smi") is None:
        return []
    code, out, err = _query(list(FIELDS.values()))
    if code == UNKNOWN_FIELD:
        code, out, err = _query(list(FIELDS.values())[:OLDEST_FIELDS])
    gpus = parse(out)
    listing = _ask("-L")[1] if any(gpu.mig for gpu in gpus) else ""
    cards = [_card(gpu, listing) for gpu in gpus]
    if code == 0 or (code in (NO_DEVICE, NO_DRIVER, NO_LIBRARY) and not _has_device()):
        return cards
    words = "; ".join(
        line.strip() for line in f"{err}\n{out}".splitlines() if line.strip() and not parse(line)
    )
    failure = f"nvidia-smi: {words or 'no word'} (code {code})"
    if not cards:
        raise DriverError(failure)
    return _with_gaps(gpus, cards, Card(failure=failure))
