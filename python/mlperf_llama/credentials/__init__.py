"""Secrets and passwords: read in one place, checked, and shown nowhere (redaction.py).

`secret` is the only reader of a secret, and `user_info` that of an address's user and password. No
message here holds a value or a part of one.
"""

from __future__ import annotations

import codecs
import difflib
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from .. import settings
from ..errors import MissingError, UsageError
from ..settings import PREFIX, SECRETS

SECRET_NAMES = (*SECRETS, *(f"{name}_FILE" for name in SECRETS))
# What other tools and older guides call the same secrets.
SECRET_ALIASES = {
    "HF_TOKEN": re.compile(r"(HF|HUGGING_?FACE)(_?HUB)?_((API|ACCESS|AUTH|USER|READ)_)?(TOKEN|KEY)"),
    "ENDPOINT_API_KEY": re.compile(r"(MLPERF_)?ENDPOINTS?_(API_?)?(KEY|TOKEN)"),
    "CF_ACCESS_CLIENT_ID": re.compile(r"(CF|CLOUDFLARE)_(ACCESS_)?(CLIENT_)?ID"),
    "CF_ACCESS_CLIENT_SECRET": re.compile(r"(CF|CLOUDFLARE)_(ACCESS_)?(CLIENT_)?(SECRET|TOKEN|KEY)"),
}
# Names that look like ours and are other programs' own.
FOREIGN_NAMES = ("HF_TOKEN_PATH",)
SECRET_STARTS = ("ENDPOINT", "HF", "HUGGING", "CF_ACC", "CF_CLI", "CLOUDFLARE_ACC")
# How alike two names are (0 to 1) before one counts as the other, misspelt.
ALIKE = 0.75
# Around a secret that was pasted or came out of a file: white space, byte order marks, zero-width spaces.
INVISIBLE = "\ufeff\ufffe\u200b\u2060"


def secret(name: str, env: Mapping[str, str]) -> str | None:
    """A secret's value from NAME or from the file that NAME_FILE names; None if absent.

    Outer white space and byte order marks are cut off. MissingError where characters are left that no
    token has: as a header they would fail, and the failure would repeat the value.
    """
    if name not in SECRETS:
        raise KeyError(name)
    value, where = trimmed(env.get(name, "")), ""
    if not value and (path := env.get(f"{name}_FILE")):
        value, where = trimmed(_secret_file(name, path)), f" in the file that {name}_FILE names"
    fault = next(((n, c) for n, c in enumerate(value, 1) if not _may_stand_in_token(c)), None)
    if fault:
        raise MissingError(
            f"{name} has characters no token has{where}: {_kind(fault[1])} at position {fault[0]} of "
            f"{len(value)}; set the bare token, without quotes"
        )
    return value or None


def trimmed(value: str) -> str:
    """Without what surrounds a pasted secret unseen."""
    while value != (shorter := value.strip().strip(INVISIBLE)):
        value = shorter
    return value


def _may_stand_in_token(character: str) -> bool:
    return "!" <= character <= "~" and character not in "\"'`"


def _kind(character: str) -> str:
    category = unicodedata.category(character)
    if character.isspace():
        return "white space"
    if character in "\"'`" or category in ("Pi", "Pf", "Ps"):
        return "a quotation mark"
    return "a control character" if category in ("Cc", "Cf") else "a character outside ASCII"


def _secret_file(name: str, path: str) -> str:
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{name}_FILE: expected a readable file, found {path}: {reason}") from None
    return decoded(data)


def decoded(data: bytes) -> str:
    """The text of a file, with or without a byte order mark; PowerShell's `>` writes UTF-16."""
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if wide else "utf-8-sig", "replace")


def misnamed_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """Names that are set and read by nothing here, each with the secret that was probably meant."""
    misnamed = {}
    for name, value in env.items():
        upper = name.upper()
        if not value or name in (*SECRET_NAMES, *FOREIGN_NAMES) or not upper.startswith(SECRET_STARTS):
            continue
        base, suffix = upper.removesuffix("_FILE"), "_FILE" if upper.endswith("_FILE") else ""
        known = [meant + suffix for meant, alias in SECRET_ALIASES.items() if alias.fullmatch(base)]
        right = next(iter(known or difflib.get_close_matches(upper, SECRET_NAMES, 1, ALIKE)), None)
        if right and not env.get(right):
            misnamed[name] = right
    return misnamed


def misnamed(name: str, env: Mapping[str, str]) -> str:
    """For the message that the secret `name` is absent: under which other name it seems to be set."""
    names = [wrong for wrong, right in misnamed_secrets(env).items() if right in (name, f"{name}_FILE")]
    return f" ({' and '.join(names)} is set, which nothing reads: rename it)" if names else ""


def without_secrets(env: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child process that needs no secret, or is given the checked one by its caller."""
    return {name: value for name, value in env.items() if name not in SECRET_NAMES}


def user_info(name: str, address: str, env: Mapping[str, str]) -> str:
    """USER:PASSWORD that the setting `name` holds with `address`; empty where it is set to another one.

    Config has the address alone: it is saved, and the password is not.
    """
    value = env.get(PREFIX + name, "").strip()
    try:
        return settings.user_info(value) if settings.address(value) == address else ""
    except ValueError:
        return ""
