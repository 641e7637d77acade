"""vLLM's resolved configuration as plain data for a record: every field, nothing computed."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from pathlib import Path

from ..records.files import JsonObject

# Deeper, and beyond so many entries of one list, there are only tables of the compiler's.
DEEPEST, LONGEST = 9, 400
# Layers and compiled functions, which are no settings.
_RUNTIME = ("static_forward_context", "static_all_moe_layers", "enabled_custom_ops", "disabled_custom_ops")
_SECRET = "hf_token"


def plain(value: object, depth: int = 0) -> object:
    """`value` as JSON can hold it: fields of dataclasses and of Hugging Face's configs, names of the rest."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, Path):
        return str(value)
    if depth >= DEEPEST:
        return _name(value)
    if isinstance(value, list | tuple | set | frozenset):
        members = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [plain(member, depth + 1) for member in list(members)[:LONGEST]]
    fields = _fields(value)
    return _name(value) if fields is None else _object(fields, depth)


def _object(fields: Mapping[str, object], depth: int) -> JsonObject:
    return {
        name: "***" if name == _SECRET and value else plain(value, depth + 1)
        for name, value in fields.items()
        if not name.startswith("_") and name not in _RUNTIME
    }


def _fields(value: object) -> dict[str, object] | None:
    """Name -> value of what has fields; None of a function, a tensor's dtype and the like."""
    if isinstance(value, Mapping):
        return {str(name): member for name, member in value.items()}
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    to_dict = getattr(value, "to_dict", None)
    try:
        made = to_dict() if callable(to_dict) and not isinstance(value, type) else None
    except TypeError:  # one that needs arguments
        return None
    return {str(name): member for name, member in made.items()} if isinstance(made, Mapping) else None


def _name(value: object) -> str:
    """A short name without an address in memory."""
    text = str(value)
    if " at 0x" in text:
        return getattr(value, "__qualname__", None) or type(value).__qualname__
    return text[:LONGEST]


def data(value: object) -> JsonObject:
    """The same of an object with fields; an empty one of anything else."""
    made = plain(value)
    return made if isinstance(made, dict) else {}
