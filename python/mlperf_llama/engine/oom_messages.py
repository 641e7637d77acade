"""What vLLM and torch say when the GPU's memory does not suffice: when it was, and how much is missing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

# What torch, vLLM's allocator of the KV cache and the CUDA driver say.
SIGNS = (
    "out of memory",
    "outofmemory",
    "no available memory for the cache blocks",
    "larger than the available kv cache",
    "cuda_error_out_of_memory",
)
_SIZE = r"(-?[\d.]+)"
# vLLM: v1/worker/utils.py and cpu_worker.py, v1/core/kv_cache_utils.py, v1/worker/gpu_worker.py.
_STARTUP = re.compile(
    rf"(?:Free memory on device|Available memory on node) \S+ \({_SIZE}/{_SIZE} GiB\) on startup is less "
    rf"than desired [CG]PU memory utilization \({_SIZE}, {_SIZE} GiB\)"
)
_NO_BLOCKS = re.compile(r"No available memory for the cache blocks")
_ONE_REQUEST = re.compile(
    rf"max seq len \(\d+\), \({_SIZE} GiB KV cache is needed, which is larger than the available KV cache "
    rf"memory \({_SIZE} GiB\)"
)
_AVAILABLE = re.compile(rf"Available KV cache memory: {_SIZE} GiB")
# gpu_model_runner.py, before and after the weights are loaded.
_LOADING, _LOADED = "Starting to load model", "Model loading took"
# torch: c10/cuda/CUDACachingAllocator.cpp, with the unit that suits the size.
_TORCH_SIZE = r"([\d.]+) (bytes|KiB|MiB|GiB)"
_TORCH = re.compile(rf"Tried to allocate {_TORCH_SIZE}(.*)")
_TOTAL = re.compile(rf"total capacity of {_TORCH_SIZE}")
_FREE = re.compile(rf"of which {_TORCH_SIZE} is free")
_OWN = re.compile(rf"this process has {_TORCH_SIZE} memory in use")
_GIB = {"bytes": 1024.0**-3, "KiB": 1024.0**-2, "MiB": 1 / 1024, "GiB": 1.0}


class Phase(Enum):
    """When memory was missing."""

    STARTUP = "before anything was loaded"
    WEIGHTS = "while the weights were loaded"
    PROFILE = "in the largest step"
    CACHE = "for the KV cache"
    SERVING = "beside the KV cache"


@dataclass(frozen=True)
class Shortage:
    """Sizes in GiB; None where nobody says. `missing`: beside the KV cache of one request where that is None.
    `free`, `total`: the device's; `others`: what other processes hold. `one_request`, `cache`: the KV cache
    that one request needs, and the one there was."""

    phase: Phase
    missing: float | None = None
    free: float | None = None
    total: float | None = None
    others: float | None = None
    one_request: float | None = None
    cache: float | None = None


def is_out_of_memory(text: str) -> bool:
    lower = text.lower()
    return any(sign in lower for sign in SIGNS) or _STARTUP.search(text) is not None


def shortage(text: str, serving: bool = False) -> Shortage:
    """The last lack of memory in `text`, the log of one load and what the engine reported, where that was
    what it died of. `serving`: the engine had been loaded."""
    known = dict(_known(text, serving))
    if not known:
        return Shortage(_phase(text, serving), cache=_last(_AVAILABLE, text))
    return known[max(known)]


def _known(text: str, serving: bool) -> Iterator[tuple[int, Shortage]]:
    """Each message that gives sizes, and where it stands."""
    for match in _STARTUP.finditer(text):
        free, total, _, wanted = map(float, match.groups())
        yield match.start(), Shortage(Phase.STARTUP, wanted - free, free, total, others=total - free)
    for match in _ONE_REQUEST.finditer(text):
        needed, available = map(float, match.groups())
        yield match.start(), Shortage(Phase.CACHE, needed - available, one_request=needed, cache=available)
    for match in _NO_BLOCKS.finditer(text):
        available_or_none = _last(_AVAILABLE, text[: match.start()])
        missing = None if available_or_none is None else -available_or_none
        yield match.start(), Shortage(Phase.CACHE, missing, cache=available_or_none)
    for match in _TORCH.finditer(text):
        yield match.start(), _torch(match, _phase(text[: match.start()], serving), text)


def _torch(match: re.Match[str], phase: Phase, text: str) -> Shortage:
    tried, details = float(match[1]) * _GIB[match[2]], match[3]
    free, total, own = (_torch_size(pattern, details) for pattern in (_FREE, _TOTAL, _OWN))
    others = None
    if free is not None and total is not None and own is not None:
        others = max(0.0, total - free - own)
    # Free memory in pieces does not help: as much is missing as was tried for, where torch calls it free.
    missing = tried - free if free is not None and free < tried else tried
    cache = _last(_AVAILABLE, text[: match.start()])
    return Shortage(phase, missing, free, total, others, cache=cache)


def _phase(before: str, serving: bool) -> Phase:
    """By what vLLM had logged; the largest step where it logs nothing."""
    if serving or _AVAILABLE.search(before):
        return Phase.SERVING
    return Phase.WEIGHTS if _LOADING in before and _LOADED not in before else Phase.PROFILE


def _last(pattern: re.Pattern[str], text: str) -> float | None:
    numbers = pattern.findall(text)
    return float(numbers[-1]) if numbers else None


def _torch_size(pattern: re.Pattern[str], text: str) -> float | None:
    match = pattern.search(text)
    return float(match[1]) * _GIB[match[2]] if match else None
