"""What a publisher's own server says of its files, asked in the very run that uses them.

Where no SHA-256 of a file is pinned (../pins.py), only this proves the file to be the official one. An
answer counts from the servers in HOSTS alone, over TLS with the certificates that come with the program
(REQUESTS_CA_BUNDLE is not asked); never one of a mirror, of a cache, or of a file on disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from requests.utils import DEFAULT_CA_BUNDLE_PATH

from ...errors import MissingError
from ...records.files import JsonObject
from . import http

log = logging.getLogger(__name__)

# Scheme and host of each publisher's own servers: the Hub's, and MLCommons' stores of datasets and of models.
HOSTS = (
    "https://huggingface.co",
    "https://inference.mlcommons-storage.org",
    "https://llama3-1.mlcommons-storage.org",
)
PATIENCE = http.Patience(stall_s=10, timeout_s=20)


@dataclass(frozen=True)
class Announcement:
    """Hashes by file name. `algorithm`: sha256, or md5 where the publisher has nothing else.

    `time`: of the answer, ISO 8601, UTC.
    """

    url: str
    revision: str | None
    time: str
    algorithm: str
    hashes: Mapping[str, str]

    def of(self, name: str) -> str | None:
        """The hash of a file, by its path in the list, else by its last part where only one has it."""
        if name in self.hashes:
            return self.hashes[name]
        same = [value for path, value in self.hashes.items() if PurePosixPath(path).name == name]
        return same[0] if len(same) == 1 else None

    @property
    def verified_by(self) -> str:
        return f"{self.algorithm.upper()} announced by {urlsplit(self.url).hostname} in this run"

    def record(self) -> JsonObject:
        """What provenance.json keeps of it."""
        return {
            "url": self.url,
            "revision": self.revision,
            "time": self.time,
            "algorithm": self.algorithm,
            "hashes": dict(self.hashes),
        }


# Asks a publisher; MissingError with the reason where nothing was announced.
Announce = Callable[[], Announcement]


def ask(url: str, headers: Mapping[str, str] | None = None) -> bytes:
    """A page of a publisher's own server. MissingError: not one of HOSTS, or no answer."""
    parts = urlsplit(url)
    if f"{parts.scheme}://{parts.netloc}" not in HOSTS:
        raise MissingError(f"{parts.scheme}://{parts.netloc} is not the publisher's own server")
    log.info("asking_publisher url=%s", url)
    return http.get(url, PATIENCE, headers, certificates=DEFAULT_CA_BUNDLE_PATH)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
