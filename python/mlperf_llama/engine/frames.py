"""Frames of a byte stream: a header (kind, number of entries, payload bytes) and arrays of native integers.

    FIRST_TOKENS  n u64 ids, n i32 tokens
    COMPLETIONS   n u64 ids, n i32 lengths, i32 tokens

Whoever uses frames numbers the further kinds: LoadGen's child (loadgen/link.py), and a host's members
(engine/replicas/wire.py).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from typing import NamedTuple

HEADER = struct.Struct("=IIQ")
FIRST_TOKENS, COMPLETIONS = 2, 3


class Frame(NamedTuple):
    """One decoded frame of `entries` ids; `payload` is a copy that the receiver owns."""

    kind: int
    entries: int
    payload: bytes


class FrameError(ValueError):
    """The stream holds no frames."""


def frame(kind: int, entries: int, *parts: bytes) -> bytes:
    return b"".join((HEADER.pack(kind, entries, sum(map(len, parts))), *parts))


def integers(typecode: str, data: bytes | memoryview) -> array[int]:
    values: array[int] = array(typecode)
    values.frombytes(data)
    return values


def first_tokens(ids: array[int], tokens: array[int]) -> bytes:
    """`ids` of typecode Q, `tokens` of typecode i, as long as each other."""
    return frame(FIRST_TOKENS, len(ids), ids.tobytes(), tokens.tobytes())


def completions(ids: array[int], lengths: array[int], tokens: array[int]) -> bytes:
    """`tokens` holds the responses one after the other, `lengths` how many each has."""
    return frame(COMPLETIONS, len(ids), ids.tobytes(), lengths.tobytes(), tokens.tobytes())


def read_first_tokens(received: Frame) -> tuple[array[int], array[int]]:
    """Ids and tokens."""
    cut = 8 * received.entries
    return integers("Q", received.payload[:cut]), integers("i", received.payload[cut:])


def read_completions(received: Frame) -> tuple[array[int], array[int], array[int]]:
    """Ids, lengths, and all tokens."""
    ids, rest = 8 * received.entries, 12 * received.entries
    payload = received.payload
    return integers("Q", payload[:ids]), integers("i", payload[ids:rest]), integers("i", payload[rest:])


class Decoder:
    """Cuts a byte stream into frames. `most`: bytes of one payload; FrameError where a header has more."""

    def __init__(self, most: int | None = None) -> None:
        self._buffer = bytearray()
        self._most = most

    def feed(self, data: bytes | memoryview) -> Iterator[Frame]:
        """The frames that are complete once `data` has arrived."""
        buffer = self._buffer
        if buffer:
            buffer += data
            data = memoryview(buffer)
        start, length = 0, len(data)
        try:
            while length - start >= HEADER.size:
                kind, entries, size = HEADER.unpack_from(data, start)
                if self._most is not None and size > self._most:
                    raise FrameError(f"expected at most {self._most} bytes in a frame, found {size}")
                end = start + HEADER.size + size
                if length < end:
                    break
                payload = bytes(data[start + HEADER.size : end])
                start = end
                yield Frame(kind, entries, payload)
        finally:
            self._keep(data, start)

    def _keep(self, data: bytes | memoryview, start: int) -> None:
        """What is no whole frame yet; where nothing was kept before, `data` itself held every frame."""
        if not self._buffer:
            self._buffer += data[start:]
        else:
            assert isinstance(data, memoryview)
            data.release()
            del self._buffer[:start]
