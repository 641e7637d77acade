"""The head's listening socket: lets in who proves the token, and nobody else.

A caller may send as many bytes as an answer has, within CALL_S; of callers that have not answered only the
last MOST_CALLERS are kept, so that strangers hold no descriptors and cannot keep members out. Once every
member is in, the socket is closed: during a run there is nothing to connect to.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from ...errors import BrokeError
from . import wire

log = logging.getLogger(__name__)

CALL_S = 5.0
MOST_CALLERS = 64
BACKLOG = 256
# Takes a member's index (wire.ANY_MEMBER: none) and its connection; None where it is not expected.
Admit = Callable[[int, asyncio.Transport], asyncio.BaseProtocol | None]


class _Caller(asyncio.Protocol):
    """One connection until it has proved the token."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._nonce = wire.new_nonce()
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(CALL_S, self.drop)
        self._door.callers[self] = None
        self._door.make_room()
        transport.write(wire.greeting(self._nonce))

    def data_received(self, data: bytes) -> None:
        self._received += data[: wire.ANSWER_BYTES + 1]
        if len(self._received) < wire.ANSWER_BYTES:
            return
        answer = None
        if len(self._received) == wire.ANSWER_BYTES:
            answer = wire.read_answer(self._received, self._door.token, self._nonce)
        transport = self._transport
        if answer is None or transport is None:
            self.drop()
            return
        protocol = self._door.admit(answer.member, transport)
        if protocol is None:
            self.drop()
            return
        self._leave()
        transport.set_protocol(protocol)
        transport.write(wire.head_proof(self._door.token, self._nonce, answer.nonce))
        protocol.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()

    def drop(self) -> None:
        self._leave()
        if self._transport:
            self._transport.abort()

    def _leave(self) -> None:
        self._door.callers.pop(self, None)
        if self._timer:
            self._timer.cancel()


class Door:
    """`open` gives the port; `close` ends it with every caller that is not in."""

    def __init__(self, token: str, admit: Admit) -> None:
        self.token, self.admit = token, admit
        # In the order in which they came.
        self.callers: dict[_Caller, None] = {}
        self._server: asyncio.Server | None = None

    async def open(self, host: str, port: int) -> int:
        """BrokeError where the address cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Caller(self), host, port, backlog=BACKLOG)
        except OSError as error:
            raise BrokeError(f"replicas: expected to listen on {host}:{port}: {error.strerror}") from None
        free_port: int = self._server.sockets[0].getsockname()[1]
        return free_port

    def make_room(self) -> None:
        while len(self.callers) > MOST_CALLERS:
            next(iter(self.callers)).drop()

    def close(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for caller in list(self.callers):
            caller.drop()


def own_address(towards: str | None = None) -> str:
    """This host's address as others see it; `towards`: one of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: only the route is looked up.
            probe.connect((towards or "10.255.255.255", 9))
            address: str = probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"
    return address
