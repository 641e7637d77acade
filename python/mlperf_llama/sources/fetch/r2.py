"""A folder of the MLCommons R2 store, as its own downloader fetches it, without a browser.

The protocol (https://github.com/mlcommons/r2-downloader, read there): NAME.uri holds the
base address of the files, NAME.md5 beside it one `MD5  ./path` a line. A protected bucket
stands behind Cloudflare Access, which redirects to a log-in page unless the two headers of
a service token come with the request:
https://developers.cloudflare.com/cloudflare-one/identity/service-tokens/
Seen against a local server that answers so; the real store was not reachable while this
was written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import quote, urlsplit

from ...config import secret
from ...credentials import misnamed
from ...errors import MissingError
from ...records import lock
from ...records.files import digest
from . import http, publisher
from .cached import COMPLETE, is_complete, mark_complete

log = logging.getLogger(__name__)

# Names that our own files have in such a folder.
RESERVED = re.compile(rf"{re.escape(COMPLETE)}|.*\.part|\..*\.lock", re.IGNORECASE)
ADVICE = (
    "set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET to an MLCommons service token "
    "(members ask for one where https://llama3-1.mlcommons.org explains the access; `make auth` says how)"
)
_LINE = re.compile(r"([0-9a-f]{32})\s+\*?(?:\./)?(\S.*)")


def token_headers(env: Mapping[str, str]) -> dict[str, str]:
    """The headers that open a protected bucket: of the service token, else of a log-in in a browser."""
    return service_headers(env) or browser_headers(env)


def browser_headers(env: Mapping[str, str]) -> dict[str, str]:
    """The header of a log-in through cloudflared, as `cloudflared access curl` sends it; empty without."""
    token = secret("CF_ACCESS_TOKEN", env)
    return {"cf-access-token": token} if token else {}


def service_headers(env: Mapping[str, str]) -> dict[str, str]:
    """The service token's two headers; empty unless both halves are set."""
    name, key = secret("CF_ACCESS_CLIENT_ID", env), secret("CF_ACCESS_CLIENT_SECRET", env)
    return {"CF-Access-Client-Id": name, "CF-Access-Client-Secret": key} if name and key else {}


def advice(env: Mapping[str, str]) -> str:
    """What to set, and under which wrong name it may be set."""
    return ADVICE + "".join(
        misnamed(name, env) for name in ("CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET")
    )


def download(
    uri: str, dest: Path, env: Mapping[str, str], stall_s: float, timeout_s: float, user_info: str = ""
) -> Path:
    """Every file that the metadata URI (`.../NAME.uri`) names, in the folder `dest`.

    `user_info`: USER:PASSWORD for a mirror that asks for them.

    A folder that was completed before is given back without touching the network.
    MissingError: no access, not there, stalled, cut off, or not matching its MD5.
    """
    if is_complete(dest):
        return dest
    with lock.turn(dest):
        if not is_complete(dest):
            _fetch(uri, dest, env, stall_s, timeout_s, user_info)
    return dest


def _fetch(
    uri: str, dest: Path, env: Mapping[str, str], stall_s: float, timeout_s: float, user_info: str
) -> None:
    if not uri.endswith(".uri"):
        raise MissingError(f"{uri}: expected a metadata address that ends in .uri")
    token, patience = token_headers(env), http.Patience(stall_s, timeout_s)
    headers = {**token, **http.basic(user_info)}
    try:
        base = http.get(uri, patience, headers).decode("utf-8", "replace").strip()
        sums = http.get(uri.removesuffix(".uri") + ".md5", patience, headers).decode("utf-8", "replace")
        _check_base(uri, base)
        files = _read_sums(uri, sums)
        for number, (name, md5) in enumerate(files.items(), 1):
            if (dest / name).is_file() and digest(dest / name, "md5") == md5:
                continue
            log.info("downloading file=%s number=%d of=%d", name, number, len(files))
            http.download(_address(base, name, len(files)), dest / name, patience, headers, md5)
    except http.LoginPage as error:
        which = "service token" if service_headers(env) or not token else "token of the log-in"
        cause = f"the {which} was refused" if token else "no service token is set"
        raise MissingError(f"{error} ({cause}); {advice(env)}") from None
    except http.Refused as error:
        remedy = f"; {advice(env)}" if error.status in (401, 403) else ""
        raise MissingError(f"{error}{remedy}") from None
    mark_complete(dest, list(files))


def announce(uri: str, env: Mapping[str, str]) -> publisher.Announcement:
    """The MD5 list of a metadata URI as MLCommons' own store gives it now; MissingError: it does not."""
    url = uri.removesuffix(".uri") + ".md5"
    text = publisher.ask(url, token_headers(env)).decode("utf-8", "replace")
    return publisher.Announcement(url, None, publisher.now(), "md5", _read_sums(url, text))


def _check_base(uri: str, base: str) -> None:
    """The service token goes with every file, so the files must be where it belongs."""
    if urlsplit(base)[:2] != urlsplit(uri)[:2]:
        raise MissingError(f"{uri}: expected the address of a folder on the same host, found {base[:80]!r}")


def _read_sums(uri: str, text: str) -> dict[str, str]:
    """File name -> MD5. A name that would leave the folder is refused."""
    sums: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        match = _LINE.fullmatch(line.strip())
        path = PurePosixPath(match[2]) if match else PurePosixPath("..")
        if not match or path.is_absolute() or ".." in path.parts:
            raise MissingError(f"{uri}: expected lines of an MD5 and a file name, found {line[:80]!r}")
        if RESERVED.fullmatch(path.name):
            raise MissingError(f"{uri}: expected names of data files, found {path.name!r}, a name of our own")
        sums[str(path)] = match[1]
    if not sums:
        raise MissingError(f"{uri}: expected a list of files, found an empty one")
    return sums


def _address(base: str, name: str, count: int) -> str:
    """A file's address; a data set of one file may give that file's own as its base."""
    if count == 1 and base.endswith("/" + quote(name)):
        return base
    return f"{base.rstrip('/')}/{quote(name)}"
