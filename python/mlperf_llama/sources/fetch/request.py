"""A GET with a limit: the answer, its body unread, or why there is none, in words."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import requests

from ...errors import MissingError
from ...machine import route
from ...machine.limit import within

MAX_REDIRECTS = 3
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


def bearer(token: str | None) -> dict[str, str]:
    """The header for a token; none without."""
    return {"Authorization": f"Bearer {token}"} if token else {}


def opened(
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
        return within(2 * patience_s, ask, "request")
    except (requests.Timeout, TimeoutError):
        raise MissingError(f"{url}: no answer within {patience_s:.0f} s") from None
    except (requests.RequestException, OSError) as error:
        # requests says with a bare OSError that the file of a CA is not there.
        cause = route.explained(cause_of(error), os.environ)
        raise MissingError(f"{url}: no connection: {cause}") from None


def _retry_after_s(response: requests.Response) -> float | None:
    """Seconds of a Retry-After header; None without one, or where it names a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _is_login(location: str) -> bool:
    parts = urlsplit(location)
    return (parts.hostname or "").endswith(".cloudflareaccess.com") or "/cdn-cgi/access/" in parts.path


def cause_of(error: BaseException) -> str:
    """The innermost cause's own words: the outer ones repeat the address."""
    while (inner := error.__cause__ or error.__context__ or next(_inner(error), None)) not in (None, error):
        error = inner
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__)[:200]


def _inner(error: BaseException) -> Iterator[BaseException]:
    """Exceptions that requests and urllib3 hand on as an argument."""
    yield from (arg for arg in error.args if isinstance(arg, BaseException))
