"""Frames between the engine's process and LoadGen's child, over a socket pair.

A frame is a header (kind, number of ids, payload bytes) and arrays of native integers: both
ends are one host. Only the few control frames hold text.

    QUERIES       child to parent   n u64 response ids, n i64 sample indices
    FIRST_TOKENS  parent to child   n u64 response ids, n i32 tokens
    COMPLETIONS   parent to child   n u64 response ids, n i32 lengths, i32 tokens
    READY, DONE, ERROR              UTF-8 text, n is 0
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import NamedTuple

QUERIES, FIRST_TOKENS, COMPLETIONS, READY, DONE, ERROR = range(1, 7)
HEADER = struct.Struct("=IIQ")


class Frame(NamedTuple):
    """One decoded frame of `entries` ids; `payload` is a copy that the receiver owns."""

    kind: int
    entries: int
    payload: bytes


def _frame(kind: int, entries: int, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return HEADER.pack(kind, entries, len(payload)) + payload


def control(kind: int, text: str = "") -> bytes:
    return _frame(kind, 0, text.encode())


def queries(response_ids: Sequence[int], indices: Sequence[int]) -> bytes:
    return _frame(
        QUERIES, len(response_ids), array("Q", response_ids).tobytes(), array("q", indices).tobytes()
    )


def first_tokens(response_ids: array[int], tokens: array[int]) -> bytes:
    """`response_ids` of typecode Q, `tokens` of typecode i, as long as each other."""
    return _frame(FIRST_TOKENS, len(response_ids), response_ids.tobytes(), tokens.tobytes())


def completions(response_ids: array[int], lengths: array[int], tokens: array[int]) -> bytes:
    """`tokens` holds the responses one after the other, `lengths` how many each has."""
    return _frame(COMPLETIONS, len(response_ids), response_ids.tobytes(), lengths.tobytes(), tokens.tobytes())


def read_queries(frame: Frame) -> tuple[array[int], array[int]]:
    """Response ids and sample indices."""
    cut = 8 * frame.entries
    return _array("Q", frame.payload[:cut]), _array("q", frame.payload[cut:])


def read_first_tokens(frame: Frame) -> tuple[array[int], array[int]]:
    """Response ids and tokens."""
    cut = 8 * frame.entries
    return _array("Q", frame.payload[:cut]), _array("i", frame.payload[cut:])


def read_completions(frame: Frame) -> tuple[array[int], array[int], array[int]]:
    """Response ids, lengths, and all tokens."""
    ids, rest = 8 * frame.entries, 12 * frame.entries
    payload = frame.payload
    return _array("Q", payload[:ids]), _array("i", payload[ids:rest]), _array("i", payload[rest:])


def _array(typecode: str, data: bytes) -> array[int]:
    values: array[int] = array(typecode)
    values.frombytes(data)
    return values


class Decoder:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """The frames that are complete once `data` has arrived."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= HEADER.size:
                kind, entries, size = HEADER.unpack_from(buffer, start)
                end = start + HEADER.size + size
                if len(buffer) < end:
                    break
                payload = bytes(memoryview(buffer)[start + HEADER.size : end])
                start = end
                yield Frame(kind, entries, payload)
        finally:
            del buffer[:start]
