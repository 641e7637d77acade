"""The three ways to the weights, each asked at its own host at once: does it work, and if not, what to do.

The articles need no token. One way is enough.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from .. import rules
from ..config import Config, secret
from ..credentials import misnamed
from ..errors import MissingError, UsageError
from ..sources.fetch import http, hub, r2
from ..sources.model import mlcommons
from . import browser

PATIENCE = http.Patience(stall_s=8, timeout_s=15)
MODEL_PAGE = f"{hub.ENDPOINT}/{rules.MODEL_ID}"
MEMBERS_PAGE = "https://llama3-1.mlcommons.org"
HUB, SERVICE, BROWSER = "Hugging Face token", "MLCommons service token", "MLCommons browser log-in"
SECRETS = {
    HUB: ("HF_TOKEN",),
    SERVICE: ("CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET"),
    BROWSER: (browser.NAME,),
}
STEPS = {
    HUB: (
        f"Open {MODEL_PAGE}, sign in, open the licence there, fill in the form and press Submit; wait for "
        "the mail that access is granted.",
        f"Open {hub.TOKENS_PAGE}, press Create new token, choose Read, press Create token and copy it.",
        "Set HF_TOKEN to it, or type `make auth` on a terminal and paste it there.",
    ),
    SERVICE: (
        f"Open {MEMBERS_PAGE} and follow how members of MLCommons get access to the model.",
        "Ask MLCommons there for a service token: an id and a secret.",
        "Set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET to them, or type `make auth` on a terminal.",
    ),
    BROWSER: (
        f"Open {MEMBERS_PAGE} and have your e-mail address admitted.",
        "Install Cloudflare's cloudflared on a machine with a browser, and this checkout beside it.",
        "Type `make auth` there on a terminal: it starts the log-in; sign in with that address.",
        f"Keep what it gives as a file or in .env, and bring it here as {browser.NAME}; it lasts for hours.",
    ),
}


@dataclass(frozen=True)
class Way:
    """`works`: its host let it in just now. `detail`: why, or why not."""

    name: str
    works: bool
    detail: str


def examine(config: Config, env: Mapping[str, str]) -> list[Way]:
    """Every way, in the order in which they are recommended."""
    return [check(name, config, env) for name in (HUB, SERVICE, BROWSER)]


def check(name: str, config: Config, env: Mapping[str, str]) -> Way:
    """One way, asked now."""
    try:
        missing = [secret_name for secret_name in SECRETS[name] if secret(secret_name, env) is None]
        if missing:
            return Way(name, False, _not_set(name, missing, env))
        return Way(name, True, _CHECKS[name](config, env))
    except (MissingError, UsageError) as error:
        return Way(name, False, str(error))


def _not_set(name: str, missing: list[str], env: Mapping[str, str]) -> str:
    names = " and ".join(secret_name + misnamed(secret_name, env) for secret_name in missing)
    if name == BROWSER and not browser.command(env):
        return f"{names} is not set, and cloudflared is not installed here"
    return f"{names} {'is' if len(missing) == 1 else 'are'} not set"


def _hub(config: Config, env: Mapping[str, str]) -> str:
    """A token that the hub does not know, and a gate that is not open to it, have different reasons."""
    token = secret("HF_TOKEN", env)
    whoami = f"{hub.endpoint(env)}/api/whoami-v2"
    try:
        owner = _name(http.get(whoami, PATIENCE, http.bearer(token)))
    except http.Refused as error:
        if error.status != 401:
            raise
        raise MissingError(
            f"HF_TOKEN is wrong or expired ({error}); make a new one at {hub.TOKENS_PAGE}"
        ) from None
    hub.check_access(rules.MODEL_ID, rules.MODEL_REVISION, token, env, PATIENCE)
    return f"{rules.MODEL_ID} is open to HF_TOKEN{owner}"


def _name(answer: bytes) -> str:
    try:
        content = json.loads(answer)
    except ValueError:
        content = None
    name = content.get("name") if isinstance(content, dict) else None
    return f" of {name}" if isinstance(name, str) and name.isprintable() else ""


def _store(config: Config, env: Mapping[str, str], headers: dict[str, str], refused: str) -> None:
    """MissingError: the store asks for a log-in instead of giving the model's list of files."""
    try:
        http.get(mlcommons.metadata_uri(config), PATIENCE, headers)
    except http.LoginPage as error:
        raise MissingError(f"{refused} ({error})") from None


def _service(config: Config, env: Mapping[str, str]) -> str:
    refused = "the service token is wrong or expired, or the model is not open to it"
    _store(config, env, r2.service_headers(env), refused)
    return "the model is open to the service token; its host does not say until when"


def _browser(config: Config, env: Mapping[str, str]) -> str:
    until = expiry(secret(browser.NAME, env) or "")
    if until and until <= datetime.now(UTC):
        raise MissingError(f"{browser.NAME} expired at {until:%Y-%m-%d %H:%M} UTC: log in again")
    _store(config, env, r2.browser_headers(env), f"{browser.NAME} is wrong, or the model is not open to it")
    lasts = f", until {until:%Y-%m-%d %H:%M} UTC" if until else ""
    return f"the model is open to the log-in{lasts}"


def expiry(token: str) -> datetime | None:
    """When a JSON Web Token ends (RFC 7519, `exp`); None where it does not say."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return datetime.fromtimestamp(int(claims["exp"]), UTC)
    except (IndexError, KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


_CHECKS = {HUB: _hub, SERVICE: _service, BROWSER: _browser}
