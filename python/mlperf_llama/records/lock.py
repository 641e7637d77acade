"""Locks: one process, or one chain of processes, works in a run folder at a time (`held`), and one at a
time fetches or makes a file of the cache, while others wait and then use it (`turn`).

The kernel holds the lock (flock) and drops it with the process, so a killed run leaves none
behind; the file names who holds it. entrypoint.sh opens the file once and keeps it open, its
steps find that descriptor and lock it, and so the whole chain holds it. Readers need no lock.

A file system that does not carry the kernel's lock from machine to machine (some NFS) still
carries the file: where it names another machine, nobody here can tell whether that process
lives, and a person decides.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..errors import UsageError

log = logging.getLogger(__name__)

NAME = ".lock"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# A process that was killed needs a moment to end. The owner's name is absent between two steps of a chain,
# for as long as one takes to start.
ENDING_S, NAMELESS_S = 1.0, 5.0
POLL_S = 0.1
# Who cannot write in a folder needs no lock of it: packing from a read-only disk.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Owner:
    """Who holds the lock. `boot`: of the kernel, which containers share. `inode`: of the lock's file, which
    a copy of the folder does not have."""

    pid: int
    host: str
    boot: str
    inode: int
    verb: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} ({self.verb}, since {self.since})"


@contextmanager
def held(folder: Path, verb: str) -> Iterator[None]:
    """Hold the lock of a run folder. UsageError names who holds it already, or where that cannot be told,
    how to break the lock."""
    path = folder / NAME
    inherited = _inherited(path)
    try:
        descriptor = _opened(path) if inherited is None else inherited
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        yield
        return
    try:
        _take(folder, descriptor)
        owner = _ourselves(descriptor, verb)
        _write(descriptor, owner)
        try:
            yield
        finally:
            if _owner(descriptor) == owner:
                os.ftruncate(descriptor, 0)
    finally:
        if inherited is None:
            os.close(descriptor)


@contextmanager
def turn(target: Path) -> Iterator[None]:
    """One process at a time puts `target` (a file or a folder) there. The others wait, and say for whom;
    afterwards they find it, and look before they begin. The lock's file goes with its last holder."""
    path = target.with_name(f".{target.name}{NAME}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _in_turn(path, target)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
        descriptor = -1
    if descriptor < 0:
        yield
        return
    try:
        _write(descriptor, _ourselves(descriptor, f"at {target.name}"))
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _in_turn(path: Path, target: Path) -> int:
    """The descriptor of the locked file, which is still the one at `path`: a holder removes it at its end."""
    waiting = False
    while True:
        descriptor = _opened(path)
        if _locked(descriptor):
            try:
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
            except FileNotFoundError:
                pass
        elif not waiting and (owner := _owner(descriptor)):
            waiting = True
            log.warning("%s is fetched or made by %s; waiting for it", target, owner)
        os.close(descriptor)
        time.sleep(POLL_S)


def _opened(path: Path) -> int:
    """The lock's file. It is emptied and written, so it must be no link: a run folder comes from others."""
    expected = f"{path}: expected a file of its own for the lock, found"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"{expected} a symbolic link; remove it") from None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise UsageError(f"{expected} a hard link or no regular file; remove it")
    return descriptor


def _inherited(path: Path) -> int | None:
    """The descriptor of this very file that the process was started with, if any."""
    try:
        wanted = path.lstat()
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    except OSError:
        return None
    for number in numbers:
        try:
            status = os.fstat(number)
        except OSError:
            continue
        if os.get_inheritable(number) and os.path.samestat(status, wanted):
            return number
    return None


def _take(folder: Path, descriptor: int) -> None:
    began = time.monotonic()
    while not _locked(descriptor):
        owner = _owner(descriptor)
        if time.monotonic() - began >= (ENDING_S if owner and _lives(owner) else NAMELESS_S):
            who = str(owner) if owner else "another process (`fuser` names it)"
            raise UsageError(
                f"{folder}: expected a run folder that nobody works in, found {who} at work there; wait for "
                "its end, or end it"
            )
        time.sleep(POLL_S)
    owner = _owner(descriptor)
    if owner and owner.boot != _boot() and owner.host != socket.gethostname():
        raise UsageError(
            f"{folder}: expected a run folder that nobody works in, found {owner} named in it, and only that "
            f"machine can tell whether it still works; if it does not: rm {folder / NAME}"
        )


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # A file system without locks: the run is not worse off than without this file.
        log.warning("no_lock error=%r", error)
    return True


def _owner(descriptor: int) -> Owner | None:
    """Who wrote the file; None where nobody did, or it is a copy of another folder's."""
    try:
        owner = Owner(**json.loads(os.pread(descriptor, 4096, 0)))
    except (ValueError, TypeError):
        return None
    return owner if owner.inode == os.fstat(descriptor).st_ino else None


def _write(descriptor: int, owner: Owner) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(owner)).encode(), 0)


def _lives(owner: Owner) -> bool:
    """Whether its process is there, as far as can be told here."""
    return owner.boot != _boot() or Path(f"/proc/{owner.pid}").exists()


def _ourselves(descriptor: int, verb: str) -> Owner:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(os.getpid(), socket.gethostname(), _boot(), os.fstat(descriptor).st_ino, verb, now)


def _boot() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
