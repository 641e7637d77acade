"""Bytes from a socket into memory that stays.

asyncio's Protocol takes 256 KiB anew for each read. The C library gets so much from the kernel and gives it
back, which costs several times the read itself.
"""

from __future__ import annotations

import asyncio

# Of one read; a frame may be larger. Pages that no read has filled take no memory.
SPACE_BYTES = 1 << 20


class Receiving(asyncio.BufferedProtocol):
    """`data_received` gets a view that holds until it returns."""

    def __init__(self) -> None:
        self._space = memoryview(bytearray(SPACE_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._space

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(self._space[:nbytes])

    def data_received(self, data: bytes | memoryview) -> None:
        raise NotImplementedError
