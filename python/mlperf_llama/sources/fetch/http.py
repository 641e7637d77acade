"""One file over HTTP: stall limit, resuming, checksum, atomic, and a reason in words.

Every fault is a MissingError, because the chain has another source; `Refused` carries the
status for a caller that can say more about it.

Over 250 lines: everything that a transfer can meet is handled in one place.
"""

from __future__ import annotations

import base64
import logging
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from ...errors import MissingError
from ...machine import route
from ...records import files, lock
from ...terminal import activity

log = logging.getLogger(__name__)

BLOCK = 1 << 18
# A server that sends less than this in a stall limit's time is as good as silent.
LEAST_BYTES = 1 << 14
# A download that broke off is taken up again this often, if each piece brought something.
RESUMES = 5
MAX_REDIRECTS = 3
MAX_PAGE_BYTES = 1 << 24
# No file of the benchmark comes near: an answer without an end must have one all the same.
MAX_FILE_BYTES = 1 << 35
# What a download leaves free on the disk, of the whole and at most.
SPARE_SHARE, SPARE_BYTES = 0.02, 1 << 30
REPORT_EVERY_S = 5.0
MEANINGS = {
    401: "the credentials are missing or wrong",
    403: "access is denied",
    404: "there is no such file",
    407: "the proxy wants credentials",
    429: "too many requests",
    503: "the service is unavailable",
}
BUSY = (429, 503)


class Refused(MissingError):
    """The server answered with a status other than success."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class LoginPage(MissingError):
    """Cloudflare Access asks for a log-in instead of giving the file."""


class _CutOff(Exception):
    """Fewer bytes came than were announced."""


class _TooLarge(Exception):
    """More than any file has, or than the disk holds."""


@dataclass(frozen=True)
class Patience:
    """`stall_s`: longest silence, in seconds; `timeout_s`: longest whole download."""

    stall_s: float
    timeout_s: float


def basic(user_info: str) -> dict[str, str]:
    """The header for USER:PASSWORD as an address writes them; none without."""
    if not user_info:
        return {}
    encoded = base64.b64encode(unquote_to_bytes(user_info)).decode("ascii")
    return {"Authorization": f"Basic {encoded}"}


def get(
    url: str,
    patience: Patience,
    headers: Mapping[str, str] | None = None,
    certificates: str | None = None,
) -> bytes:
    """The body of a small page (at most 16 MiB). `certificates`: the only ones to trust, a file."""
    deadline = time.monotonic() + patience.timeout_s
    with _open(url, dict(headers or {}), patience, certificates) as response:
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
        response = _open(url, {**headers, **span}, patience)
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


def _open(
    url: str, headers: dict[str, str], patience: Patience, certificates: str | None = None
) -> requests.Response:
    """The response to a GET, its body unread; follows redirects within the host only.

    Headers may carry a secret, and other hosts have no business with it.
    """
    deadline = time.monotonic() + patience.stall_s
    target, waited = url, False
    for _ in range(2 + MAX_REDIRECTS):
        patience_s = max(patience.stall_s / 4, deadline - time.monotonic())
        response = _request(target, headers, patience_s, certificates)
        status = response.status_code
        if status in (200, 206):
            if response.headers.get("Content-Type", "").startswith("text/html"):
                response.close()
                raise LoginPage(f"{url}: a web page came instead of the file (a log-in, or a proxy's)")
            return response
        response.close()
        location = urljoin(target, response.headers.get("Location", ""))
        if 300 <= status < 400 and _is_login(location):
            raise LoginPage(f"{url}: Cloudflare Access asks for a log-in")
        if 300 <= status < 400 and urlsplit(location)[:2] == urlsplit(url)[:2]:
            target = location
            continue
        wait_s = _retry_after_s(response)
        if status in BUSY and not waited and wait_s is not None and wait_s <= patience.stall_s / 2:
            waited = True
            time.sleep(wait_s)
            continue
        meaning = MEANINGS.get(status, f"not what was expected ({response.reason})")
        later = "; try again later" if status in BUSY else ""
        raise Refused(f"{url}: HTTP {status}: {meaning}{later}", status)
    raise MissingError(f"{url}: more than {MAX_REDIRECTS} redirects")


def _request(
    url: str, headers: dict[str, str], patience_s: float, certificates: str | None
) -> requests.Response:
    def ask() -> requests.Response:
        with requests.Session() as session:
            # Without this, requests puts credentials of a .netrc over our header.
            session.auth = lambda request: request
            return session.get(
                url,
                headers={"Accept-Encoding": "identity", **headers},
                timeout=(patience_s / 2, patience_s),
                stream=True,
                allow_redirects=False,
                verify=certificates,
            )

    try:
        return _within(2 * patience_s, ask)
    except (requests.Timeout, TimeoutError):
        raise MissingError(f"{url}: no answer within {patience_s:.0f} s") from None
    except (requests.RequestException, OSError) as error:
        # requests says with a bare OSError that the file of a CA is not there.
        cause = route.explained(_cause(error), os.environ)
        raise MissingError(f"{url}: no connection: {cause}") from None


def _within(seconds: float, ask: Callable[[], requests.Response]) -> requests.Response:
    """`ask`, or TimeoutError. Its own limits are for each byte of the headers, and for none of a name that
    is looked up: a thread may be left behind for as long as the process lives."""
    answers: queue.SimpleQueue[requests.Response | BaseException] = queue.SimpleQueue()

    def work() -> None:
        try:
            answers.put(ask())
        except BaseException as error:
            answers.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


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
            raise _CutOff(_cause(error)) from None
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


def _retry_after_s(response: requests.Response) -> float | None:
    """Seconds of a Retry-After header; None without one, or where it names a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _is_login(location: str) -> bool:
    parts = urlsplit(location)
    return (parts.hostname or "").endswith(".cloudflareaccess.com") or "/cdn-cgi/access/" in parts.path


def _cause(error: BaseException) -> str:
    """The innermost cause's own words: the outer ones repeat the address."""
    while (inner := error.__cause__ or error.__context__ or next(_inner(error), None)) not in (None, error):
        error = inner
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]


def _inner(error: BaseException) -> Iterator[BaseException]:
    """Exceptions that requests and urllib3 hand on as an argument."""
    yield from (arg for arg in error.args if isinstance(arg, BaseException))
