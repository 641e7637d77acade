"""The GPUs that CUDA will use: what the driver lists, less what CUDA_VISIBLE_DEVICES and MIG leave out.

A machine without a GPU gives an empty list, never an error; a driver that fails gives its own words.

CUDA counts the GPUs by CUDA_DEVICE_ORDER: PCI_BUS_ID, which is the driver's own order, or FASTEST_FIRST, a
guess of CUDA's that nothing outside it can foresee. The engine sets PCI_BUS_ID where the user sets nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from ..records.schema import Gpu, Memory
from . import nvidia_smi, nvml
from .driver import Card, DriverError, limited
from .gpu_table import shares_system_memory

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
PCI_ORDER = "PCI_BUS_ID"
ONE_OF = "one of unlike GPUs"
REPAIR = "reboot, or repair the NVIDIA driver"


@dataclass(frozen=True)
class CudaGpus:
    """What CUDA will use. `failure`: the driver's own words, where a GPU is there and fails. `choice`: how
    these came to be chosen, where CUDA will not simply use all in the driver's order."""

    gpus: tuple[Gpu, ...] = ()
    failure: str | None = None
    choice: str | None = None


def describe(env: Mapping[str, str], memory: Memory | None = None) -> CudaGpus:
    """The GPUs that CUDA will use with this environment, first what it counts as 0. `memory`: the
    system's, which is that of a GPU that shares it."""
    try:
        cards = limited("NVML", nvml.cards)
        cards = nvidia_smi.cards() if cards is None else cards
    except DriverError as error:
        return CudaGpus(failure=str(error))
    used = choose(cards, env)
    return replace(used, gpus=tuple(_with_memory(gpu, memory or Memory()) for gpu in used.gpus))


def _with_memory(gpu: Gpu, memory: Memory) -> Gpu:
    if gpu.memory_gib is not None or not shares_system_memory(gpu):
        return gpu
    return replace(gpu, memory_gib=memory.total_gib, shared_memory=True)


def choose(cards: Sequence[Card], env: Mapping[str, str]) -> CudaGpus:
    """CUDA's choice of these cards, by its programming guide (environment variables) and the MIG guide."""
    visible = env.get(VISIBLE)
    foreseen = env.get(ORDER, PCI_ORDER) == PCI_ORDER or len({_kind(card) for card in cards}) < 2
    if visible is None:
        chosen = list(cards)
    elif visible.startswith(("GPU-", "MIG-")):
        chosen, foreseen = _by_uuid(cards, visible.split(",")), True
    else:
        chosen = _by_number(cards, visible.split(","))
    gpus = [gpu for card in chosen for gpu in card.devices]
    # With an instance of MIG in sight CUDA uses that one alone: no other instance, and no whole card.
    instances = [gpu for gpu in gpus if gpu.mig]
    if not foreseen:
        gpus = [_one_of([gpu for card in cards for gpu in card.devices])] * len(gpus)
    elif instances:
        gpus = instances[:1]
    failures = [card.failure for card in chosen if card.failure]
    listed = sum(max(1, len(card.devices)) for card in cards)
    return CudaGpus(tuple(gpus), "; ".join(failures) or None, _words(env, len(gpus), listed, foreseen))


def _words(env: Mapping[str, str], used: int, listed: int, foreseen: bool) -> str | None:
    settings = [f"{name}={env[name]}" for name in (VISIBLE, ORDER) if name in env]
    if foreseen and used == listed and VISIBLE not in env:
        return None
    counted = "" if foreseen else ", unlike ones in an order that only CUDA knows"
    return f"{' '.join(settings)}{': ' if settings else ''}{used} of {listed}{counted}"


def _kind(card: Card) -> object:
    """What two cards must share so that their order does not matter."""
    return tuple((gpu.name, gpu.memory_gib) for gpu in card.devices)


def _by_number(cards: Sequence[Card], words: Sequence[str]) -> list[Card]:
    """The first number that names no card ends the list; one that stands twice makes it empty."""
    chosen: list[int] = []
    for word in words:
        # CUDA reads as far as the digits go.
        digits = re.match(r"\s*\+?(\d+)", word)
        if digits is None or int(digits[1]) >= len(cards):
            break
        if int(digits[1]) in chosen:
            return []
        chosen.append(int(digits[1]))
    return [cards[number] for number in chosen]


def _by_uuid(cards: Sequence[Card], words: Sequence[str]) -> list[Card]:
    """UUIDs, or as much of each as no other begins with; the same rules as for numbers."""
    chosen: list[Card] = []
    for word in words:
        matches = _named(cards, word.strip())
        if len(matches) != 1:
            break
        if matches[0] in chosen:
            return []
        chosen += matches
    return chosen


def _named(cards: Sequence[Card], word: str) -> list[Card]:
    """The cards, or MIG instances, whose UUID begins with a word."""
    if word.startswith("GPU-"):
        return [card for card in cards if card.uuid and card.uuid.startswith(word)]
    if word.startswith("MIG-GPU-"):
        # The older name of an instance: the card's UUID with two numbers that are not listed.
        owners = _named(cards, word.removeprefix("MIG-").split("/")[0])
        return [replace(owner, devices=(_one_of(owner.devices),)) for owner in owners if owner.devices]
    instances = [(card, gpu) for card in cards for gpu in card.devices if gpu.mig and word.startswith("MIG-")]
    return [replace(card, devices=(gpu,)) for card, gpu in instances if (gpu.uuid or "").startswith(word)]


def _one_of(gpus: Sequence[Gpu]) -> Gpu:
    """One of these, and it is not known which: what they share is known, what differs is not."""
    first = gpus[0]
    if len(gpus) == 1:
        return first
    unlike = [
        f.name for f in fields(Gpu) if any(getattr(gpu, f.name) != getattr(first, f.name) for gpu in gpus)
    ]
    unknown: dict[str, object] = {name: None for name in unlike if name not in ("index", "name")}
    if "name" in unlike:
        unknown["name"] = ONE_OF
    return replace(first, **{**unknown, "uuid": None, "source": None})  # type: ignore[arg-type]


def summary(gpus: Sequence[Gpu]) -> str:
    """`4 x NVIDIA H100 80GB HBM3`, or every name where they differ."""
    counts = Counter(gpu.name for gpu in gpus)
    return ", ".join(f"{count} x {name}" for name, count in counts.items()) or "none"
