"""The files of the hub's cache: blobs under the names of their hashes, and snapshots of links to them.

The hub's own client takes whatever lies there for whole. What was cut off, changed or lost is told by its
name here, and removed, so that the client fetches it again.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

from ...errors import MissingError
from ...records.files import digest

log = logging.getLogger(__name__)

# A large file is named by its SHA-256, any other by the SHA-1 that Git gives its content.
_SHA256, _GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
# Configuration and tokenizer; weights are larger, and are hashed where they are served.
SMALL_BYTES = 64 << 20


def is_damaged(blob: Path) -> bool:
    """Whether it is gone, or its bytes are not those of its name; a name that says nothing is believed."""
    if not blob.is_file():
        return True
    if _SHA256.fullmatch(blob.name):
        return digest(blob) != blob.name
    if _GIT_SHA1.fullmatch(blob.name):
        content = blob.read_bytes()
        header = b"blob %d\0" % len(content)
        return hashlib.sha1(header + content, usedforsecurity=False).hexdigest() != blob.name
    return False


def fault(snapshot: Path) -> str:
    """Which of its small files is damaged; empty where none is."""
    for link in sorted(path for path in snapshot.rglob("*") if path.is_symlink()):
        blob = link.resolve()
        if not blob.is_file() or (blob.stat().st_size <= SMALL_BYTES and is_damaged(blob)):
            return f"{link}: its content is not that of its name in the hub's cache"
    return ""


def drop_damaged(repository: Path) -> None:
    """Remove the blobs of a repository's folder that are damaged. MissingError where that cannot be done."""
    for blob in sorted((repository / "blobs").glob("*")):
        if blob.is_file() and is_damaged(blob):
            log.warning("%s is damaged; it is fetched again", blob)
            try:
                blob.unlink()
            except OSError as error:
                raise MissingError(
                    f"{blob}: damaged, and it could not be removed ({error.strerror}): remove it"
                ) from None
