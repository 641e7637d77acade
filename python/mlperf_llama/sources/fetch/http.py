"""One file over HTTP: stall limit, resuming, checksum, atomic, and a reason in words.

Every fault is a MissingError, because the chain has another source; `Refused` carries the
status for a caller that can say more about it.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ...errors import MissingError
from ...records import files, lock
from ...terminal import activity
from .request import LoginPage as LoginPage
from .request import Patience as Patience
from .request import Refused as Refused
from .request import basic as basic
from .request import bearer as bearer
from .request import cause_of, opened

log = logging.getLogger(__name__)

BLOCK = 1 << 18
# A server that sends less than this in a stall limit's time is as good as silent.
LEAST_BYTES = 1 << 14
# A download that broke off is taken up again this often, if each piece brought something.
RESUMES = 5
MAX_PAGE_BYTES = 1 << 24
# No file of the benchmark comes near: an answer without an end must have one all the same.
MAX_FILE_BYTES = 1 << 35
# What a download leaves free on the disk, of the whole and at most.
SPARE_SHARE, SPARE_BYTES = 0.02, 1 << 30
REPORT_EVERY_S = 5.0


class _CutOff(Exception):
    """Fewer bytes came than were announced."""


class _TooLarge(Exception):
    """More than any file has, or than the disk holds."""


def get(
    url: str,
    patience: Patience,
    headers: Mapping[str, str] | None = None,
    certificates: str | None = None,
) -> bytes:
    """The body of a small page (at most 16 MiB). `certificates`: the only ones to trust, a file."""
    deadline = time.monotonic() + patience.timeout_s
    with opened(url, dict(headers or {}), patience, certificates) as response:
        body = bytearray()
        try:
            for block in _blocks(url, response, patience, deadline):
                body += block
                if len(body) > MAX_PAGE_BYTES:
                    raise MissingError(f"{url}: expected a small page, found over {MAX_PAGE_BYTES} bytes")
        except _CutOff as error:
            raise MissingError(f"{url}: the answer broke off: {error}") from None
        return bytes(body)


def download(
    url: str,
    dest: Path,
    patience: Patience,
    headers: Mapping[str, str] | None = None,
    md5: str | None = None,
) -> Path:
    """Download `url` to `dest`; what is at `dest` afterwards is complete and checked.

    A part left by an earlier attempt is taken up again where `md5` can prove the whole. Where several
    processes want the file, one fetches it and the others wait, and take it where `md5` proves it.
    """
    try:
        with lock.turn(dest):
            if md5 is None or not dest.is_file() or files.digest(dest, "md5") != md5:
                _download(url, dest, patience, dict(headers or {}), md5)
    except OSError as error:
        raise MissingError(f"{dest}: could not be written: {error.strerror}") from None
    return dest


def _download(url: str, dest: Path, patience: Patience, headers: dict[str, str], md5: str | None) -> None:
    part = dest.with_name(dest.name + ".part")
    if md5 is None:
        part.unlink(missing_ok=True)
    try:
        _fill(url, part, patience, headers, resume=md5 is not None)
    except _TooLarge as error:
        part.unlink(missing_ok=True)
        raise MissingError(f"{url}: {error}") from None
    if md5 is not None and (actual := files.digest(part, "md5")) != md5:
        part.unlink()
        raise MissingError(f"{url}: corrupted: expected MD5 {md5}, found {actual}; run again")
    os.replace(part, dest)


def _fill(url: str, part: Path, patience: Patience, headers: dict[str, str], resume: bool) -> None:
    deadline = time.monotonic() + patience.timeout_s
    for _ in range(1 + RESUMES):
        before = part.stat().st_size if part.exists() else 0
        try:
            _append(url, part, patience, headers, deadline)
            return
        except _CutOff as error:
            after = part.stat().st_size
            log.warning("cut_off url=%s bytes=%d", url, after)
            if not resume or after <= before:
                raise MissingError(f"{url}: the download broke off: {error}; run again") from None
    raise MissingError(f"{url}: the download broke off {1 + RESUMES} times; run again")


def _append(url: str, part: Path, patience: Patience, headers: dict[str, str], deadline: float) -> None:
    done = part.stat().st_size if part.exists() else 0
    span = {"Range": f"bytes={done}-"} if done else {}
    try:
        response = opened(url, {**headers, **span}, patience)
    except Refused as error:
        if error.status != 416:  # the part holds all there is: the checksum decides
            raise
        return
    with response, part.open("ab") as stream:
        if response.status_code != 206:
            stream.truncate(0)
        room = _room(response, part, stream.tell())
        reported, announced = time.monotonic(), _announced(response)
        total = f" of {activity.megabytes(stream.tell() + announced)}" if announced else ""
        for block in _blocks(url, response, patience, deadline):
            room -= len(block)
            if room < 0:
                raise _TooLarge(f"given up after {stream.tell()} bytes: no length was announced, no end came")
            stream.write(block)
            activity.note(f"{part.stem}: {activity.megabytes(stream.tell())}{total}")
            if time.monotonic() - reported > REPORT_EVERY_S:
                reported = time.monotonic()
                log.info("downloading file=%s done_bytes=%d", part.stem, stream.tell())


def _room(response: requests.Response, part: Path, done: int) -> int:
    """How many bytes may come; _TooLarge where more are announced."""
    usage = shutil.disk_usage(part.parent)
    free = usage.free - min(SPARE_BYTES, int(SPARE_SHARE * usage.total))
    announced = _announced(response)
    if announced is not None and announced > free:
        raise _TooLarge(f"{announced} bytes are to come, and {part.parent} has room for {max(free, 0)}")
    if announced is not None and announced > MAX_FILE_BYTES:
        raise _TooLarge(f"{announced} bytes are to come, expected at most {MAX_FILE_BYTES}")
    return min(free, MAX_FILE_BYTES - done)


def _announced(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _blocks(url: str, response: requests.Response, patience: Patience, deadline: float) -> Iterator[bytes]:
    """The body as it comes; raises _CutOff where it ends early."""
    expected = _announced(response)
    done = recent = 0
    since = time.monotonic()
    while True:
        try:
            block = response.raw.read1(BLOCK)
        except ReadTimeoutError:
            raise MissingError(f"{url}: stalled: silent for {patience.stall_s:g} s") from None
        except (HTTPError, OSError) as error:
            raise _CutOff(cause_of(error)) from None
        if not block:
            break
        done, recent, now = done + len(block), recent + len(block), time.monotonic()
        if now > deadline:
            raise MissingError(
                f"{url}: not finished within {patience.timeout_s:g} s (MLPERF_SOURCE_TIMEOUT_S)"
            )
        if now - since > patience.stall_s:
            if recent < LEAST_BYTES:
                raise MissingError(f"{url}: stalled: {recent} bytes in {patience.stall_s:g} s")
            recent, since = 0, now
        yield block
    if expected is not None and done < expected:
        raise _CutOff(f"{done} of {expected} bytes came")
