"""A member's way to its head: the address, the connection, the proofs of the token."""

from __future__ import annotations

import hmac
import socket
import time

from ...errors import MissingError, UsageError
from ..frames import FrameError
from . import wire
from .protocol import TOKEN_NAME, HeadAddress

# A worker may be started before its head: by hand, by Slurm, by Kubernetes.
REACH_S, RETRY_S = 300.0, 0.5
# So often it may be turned away: another run may have had the address a moment ago.
MOST_REFUSALS = 10
# Of the handshake's messages, each.
SHAKE_S = 20.0


def parse(address: str, token: str | None) -> HeadAddress:
    """HOST:PORT as on the command line. UsageError, MissingError: no such address, no token."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"--head: expected HOST:PORT, found {address!r}")
    if not token:
        raise MissingError(f"expected the head's token in {TOKEN_NAME}, or its file in {TOKEN_NAME}_FILE")
    return HeadAddress(host.strip("[]"), int(port), token)


class Refused(OSError):
    """A head is there and does not let this member in."""


def connect(head: HeadAddress, member: int, reach_s: float = REACH_S) -> socket.socket:
    """A connection on which both ends have proved the token. MissingError: no head there, or another one."""
    began, refusals = time.monotonic(), 0
    while True:
        try:
            return _shaken(head, member)
        except OSError as error:
            refusals += isinstance(error, Refused)
            if refusals >= MOST_REFUSALS or time.monotonic() - began > reach_s:
                raise MissingError(
                    f"expected a head at {head.host}:{head.port} that lets this member in, found: "
                    f"{error.strerror or error}"
                ) from None
        time.sleep(RETRY_S)


def _shaken(head: HeadAddress, member: int) -> socket.socket:
    sock = socket.create_connection((head.host, head.port), timeout=SHAKE_S)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head_nonce = wire.read_greeting(_exactly(sock, wire.GREETING_BYTES))
        own_nonce = wire.new_nonce()
        sock.sendall(wire.answer(head.token, member, head_nonce, own_nonce))
        proof = wire.head_proof(head.token, head_nonce, own_nonce)
        if not hmac.compare_digest(_exactly(sock, wire.PROOF_BYTES), proof):
            raise Refused("it does not know the token")
    except FrameError as error:
        sock.close()
        raise Refused(str(error)) from None
    except BaseException:
        sock.close()
        raise
    sock.settimeout(None)
    return sock


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise Refused("it closed the connection: a wrong token, or a member it does not expect")
        data += part
    return data
