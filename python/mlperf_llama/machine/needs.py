"""What every Linux process takes for granted and an engine cannot do without: loopback, shared memory,
temporary files. Each is tried, in milliseconds; a reason in words where it fails. Standard library only.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable

from ..config import Config
from ..errors import MissingError, UsageError

LOOPBACK, ANSWER_S = "127.0.0.1", 2.0
GREETING = b"loopback"
# vLLM's socket lies in the folder of temporary files, by a name of 36 letters; Linux allows 107 in all.
LONGEST_TEMPORARY = 107 - 37


def loopback() -> str:
    """A connection to this machine itself, with an answer."""
    try:
        with socket.create_server((LOOPBACK, 0)) as server:
            server.settimeout(ANSWER_S)
            with socket.create_connection(server.getsockname(), timeout=ANSWER_S) as here:
                there, _ = server.accept()
                with there:
                    there.settimeout(ANSWER_S)
                    here.sendall(GREETING)
                    received = there.recv(len(GREETING))
    except OSError as error:
        return (
            f"expected {LOOPBACK} to answer, found: {error.strerror or error}; bring the interface up "
            "(`ip link set lo up`) and let the firewall pass it"
        )
    return "" if received == GREETING else f"expected {LOOPBACK} to answer, found something else there"


def shared_memory() -> str:
    """A semaphore, which Linux keeps in /dev/shm."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except (OSError, ImportError) as error:
        cause = getattr(error, "strerror", None) or error
        return (
            f"expected shared memory in /dev/shm, found: {cause}; mount a tmpfs there that can be written "
            "(docker run --shm-size)"
        )
    return ""


def temporary_files() -> str:
    try:
        with tempfile.TemporaryFile():
            return ""
    except OSError as error:
        return (
            f"expected a folder for temporary files, found: {error.strerror or error}; set TMPDIR to one "
            "that can be written (of a container with a read-only root: --tmpfs /tmp:rw,exec,mode=1777)"
        )


def socket_names() -> str:
    """The folder of temporary files also holds sockets, whose whole name is short."""
    folder = tempfile.gettempdir()
    length = len(os.fsencode(folder))
    if length <= LONGEST_TEMPORARY:
        return ""
    return (
        f"expected at most {LONGEST_TEMPORARY} bytes in TMPDIR, for vLLM's socket, found {length}: {folder}"
    )


EVERY: dict[str, Callable[[], str]] = {"temporary files": temporary_files}
# What an engine needs that has processes of its own.
ENGINE: dict[str, Callable[[], str]] = {
    "loopback": loopback,
    "shared memory": shared_memory,
    "socket names": socket_names,
}


def of(config: Config) -> dict[str, Callable[[], str]]:
    """The needs of a run with these settings, by name."""
    return EVERY if config.engine != "vllm" else {**EVERY, **ENGINE}


def check(config: Config) -> None:
    """MissingError for the first thing that is not here."""
    for need in of(config).values():
        if reason := need():
            raise MissingError(reason)


def check_path(name: str, path: str) -> None:
    """UsageError for a path that LoadGen and JSON cannot name."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{name}: expected a path in UTF-8, found {path!r}") from None
