"""Records to JSON and back: strict about types, tolerant of keys that this version does not know."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from .files import JsonObject

T = TypeVar("T")


def to_json(record: object) -> Any:
    """Plain data of a record: dataclasses become objects, tuples lists."""
    if dataclasses.is_dataclass(record):
        return {
            f.name: to_json(value)
            for f in dataclasses.fields(record)
            if (value := getattr(record, f.name)) is not None or not _left_out(record, f)
        }
    if isinstance(record, Mapping):
        return {key: to_json(value) for key, value in record.items()}
    return [to_json(value) for value in record] if isinstance(record, list | tuple) else record


def _left_out(record: object, one: dataclasses.Field[Any]) -> bool:
    until = one.metadata.get("until")
    return bool(one.metadata.get("absent")) and (not until or getattr(record, until) is None)


def from_json(kind: type[T], data: Mapping[str, object]) -> T:
    """A record from parsed JSON; ValueError names the place and the type that was expected there."""
    import msgspec

    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def keep_unknown(kind: object, before: object, after: Any) -> Any:
    """`after` with the keys of `before` that the record `kind` does not have: no writer drops one."""
    if dataclasses.is_dataclass(kind) and isinstance(before, dict):
        hints = typing.get_type_hints(kind)
        names = [f.name for f in dataclasses.fields(kind)]
        kept = {n: keep_unknown(hints[n], before.get(n), v) if n in names else v for n, v in after.items()}
        return {**kept, **{n: v for n, v in before.items() if n not in names and n not in kept}}
    arguments = [a for a in typing.get_args(kind) if a is not types.NoneType]
    if isinstance(before, dict) and isinstance(after, dict) and typing.get_origin(kind) is dict:
        return {n: keep_unknown(arguments[1], before.get(n), v) for n, v in after.items()}
    if isinstance(before, list) and isinstance(after, list) and typing.get_origin(kind) is tuple:
        rest: list[object] = [None] * (len(after) - len(before))
        return [keep_unknown(arguments[0], b, a) for b, a in zip([*before, *rest], after, strict=False)]
    if isinstance(after, dict | list) and typing.get_origin(kind) in (types.UnionType, typing.Union):
        return keep_unknown(arguments[0], before, after)
    return after


def json_schema(kind: type) -> JsonObject:
    """The JSON Schema of a record (docs/schema/)."""
    import msgspec

    schema: JsonObject = msgspec.json.schema(kind, schema_hook=lambda _: {"description": "any value"})
    return schema
