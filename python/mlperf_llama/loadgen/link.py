"""Frames between the engine's process and LoadGen's child, over a socket pair.

Only the few control frames hold text.

    QUERIES       child to parent   n u64 response ids, n i64 sample indices
    FIRST_TOKENS  parent to child   n u64 response ids, n i32 tokens
    COMPLETIONS   parent to child   n u64 response ids, n i32 lengths, i32 tokens
    READY, DONE, ERROR              UTF-8 text, n is 0
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from ..engine.frames import (
    COMPLETIONS,
    FIRST_TOKENS,
    Decoder,
    Frame,
    frame,
    integers,
    read_completions,
    read_first_tokens,
)

__all__ = [
    "COMPLETIONS",
    "FIRST_TOKENS",
    "Decoder",
    "Frame",
    "read_completions",
    "read_first_tokens",
]
QUERIES, READY, DONE, ERROR = 1, 4, 5, 6


def control(kind: int, text: str = "") -> bytes:
    return frame(kind, 0, text.encode())


def queries(response_ids: Sequence[int], indices: Sequence[int]) -> bytes:
    return frame(
        QUERIES, len(response_ids), array("Q", response_ids).tobytes(), array("q", indices).tobytes()
    )


def read_queries(received: Frame) -> tuple[array[int], array[int]]:
    """Response ids and sample indices."""
    cut = 8 * received.entries
    return integers("Q", received.payload[:cut]), integers("q", received.payload[cut:])
