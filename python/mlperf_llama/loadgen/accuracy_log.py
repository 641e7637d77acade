"""LoadGen's accuracy log: each sample and the tokens it was answered with. Its only reader.

A JSON list, one object per response: `qsl_idx` (the sample) and `data` (the output's token ids as
int32, little-endian, in hexadecimal). TEST06's records also hold `token_data`, the first token as
it was reported on its own, and `token_count`, the length that LoadGen was given.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import BrokeError, MissingError

Tokens = tuple[int, ...]
TOKEN_BYTES = 4
REMEDY = "make this run again"


@dataclass(frozen=True, slots=True)
class Response:
    """One record: the sample's index and its token ids."""

    index: int
    tokens: Tokens
    first_tokens: Tokens | None = None
    token_count: int | None = None


def read(path: Path) -> list[Response]:
    """Every record of a log, in its order; which samples they are of is for the caller to check.

    MissingError without a log; BrokeError where it was cut or a record is damaged.
    """
    return [_response(path, number, entry) for number, entry in enumerate(_entries(path), 1)]


def logged_as_64_bit(responses: Sequence[Response]) -> bool:
    """Whether every response's tokens are 64-bit integers, whose upper halves were read as zeros."""
    return bool(responses) and all(
        r.tokens and len(r.tokens) % 2 == 0 and not any(r.tokens[1::2]) for r in responses
    )


def halved(response: Response) -> Response:
    """A response logged as 64-bit integers, with the tokens that were meant."""
    first = response.first_tokens
    return replace(response, tokens=response.tokens[::2], first_tokens=None if first is None else first[::2])


def _entries(path: Path) -> list[object]:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise MissingError(
            f"{path}: expected an accuracy log, could not read it: found a folder, a pipe or a device"
        )
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{path}: expected an accuracy log, found none; {REMEDY}") from None
    except OSError as error:
        raise MissingError(f"{path}: expected an accuracy log, could not read it: {error.strerror}") from None
    except (ValueError, RecursionError):
        size = path.stat().st_size
        content = "an empty file" if size == 0 else f"{size} bytes that end early or are damaged"
        raise BrokeError(f"{path}: expected a whole JSON list, found {content}; {REMEDY}") from None
    if not isinstance(entries, list):
        kind = type(entries).__name__
        raise BrokeError(f"{path}: expected a list of responses, found a {kind}; {REMEDY}")
    return entries


def _response(path: Path, number: int, entry: object) -> Response:
    fields: Mapping[str, object] = entry if isinstance(entry, dict) else {}
    index, data = fields.get("qsl_idx"), fields.get("data")
    first, count = fields.get("token_data"), fields.get("token_count")
    if type(index) is not int or not isinstance(data, str):
        raise BrokeError(
            f"{path}: expected qsl_idx (a number) and data (text) in each entry, entry {number} "
            f"lacks them; {REMEDY}"
        )
    if not isinstance(first, str | None) or not (count is None or type(count) is int):
        raise BrokeError(
            f"{path}: expected token_data (text) and token_count (a number) where they are, entry "
            f"{number} has others; {REMEDY}"
        )
    first_tokens = None if first is None else _tokens(path, index, first)
    return Response(index, _tokens(path, index, data), first_tokens, count)


def _tokens(path: Path, index: int, data: str) -> Tokens:
    try:
        raw = bytes.fromhex(data)
    except ValueError:
        raise BrokeError(f"{path}: expected hexadecimal data, sample {index} has other; {REMEDY}") from None
    if len(raw) % TOKEN_BYTES:
        raise BrokeError(
            f"{path}: expected int32 token ids ({TOKEN_BYTES} bytes each), sample {index} has "
            f"{len(raw)} bytes; {REMEDY}"
        )
    tokens = struct.unpack(f"<{len(raw) // TOKEN_BYTES}i", raw)
    if tokens and min(tokens) < 0:
        raise BrokeError(
            f"{path}: expected token ids of 0 or more, sample {index} has {min(tokens)}; {REMEDY}"
        )
    return tokens
