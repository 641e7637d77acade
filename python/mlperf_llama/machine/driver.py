"""What NVML and nvidia-smi share: GPUs as they list them, a limit for each call, and unknown as None."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..records.schema import Gpu
from .limit import NoAnswer, within

T = TypeVar("T")
GIB = 1024**3
# The driver takes seconds per card when its persistence daemon is off; a wedged one never answers.
LIMIT_S = 15.0


class DriverError(Exception):
    """The driver is there and fails: its own words."""


def without_instances(index: int, name: str) -> str:
    """The failure of a card of which CUDA can use nothing."""
    return f"GPU {index}, {name}: MIG is on and has no instance that CUDA could use"


@dataclass(frozen=True)
class Card:
    """A card at its place in the driver's list. `devices`: what CUDA can use of it, which is its MIG
    instances or the card itself; empty where it fails. `failure`: then, the driver's own words."""

    uuid: str | None = None
    devices: tuple[Gpu, ...] = ()
    failure: str | None = None


def maybe(read: Callable[[], T]) -> T | None:
    """NVML raises for whatever a card or driver does not support: unknown is None."""
    try:
        return read()
    except Exception:
        return None


def scaled(value: float | None, factor: float, digits: int) -> float | None:
    return None if value is None else round(value * factor, digits)


def limited(name: str, read: Callable[[], T], limit_s: float | None = None) -> T:
    """What `read` gives within the limit; a wedged driver never answers."""
    try:
        return within(LIMIT_S if limit_s is None else limit_s, read, name)
    except NoAnswer as error:
        raise DriverError(str(error)) from None
