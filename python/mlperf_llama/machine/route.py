"""The variables that every transfer goes by, a proxy's and a CA's: what is wrong with them, in words.

The libraries under a download say it with a traceback, or not at all. Standard library only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

CA_FILES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "PIP_CERT", "MLPERF_CA_BUNDLE")
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")


def fault(env: Mapping[str, str]) -> str:
    """What is wrong and what to do; empty where nothing is. A proxy's address may hold a password, so it is
    never shown."""
    for name in CA_FILES:
        if (value := env.get(name)) and not _exists(value):
            return f"{name}: expected the file of a CA, found none at {value}: mend or unset it"
    for name in (form for upper in PROXIES for form in (upper.lower(), upper)):
        scheme = env.get(name, "").partition("://")[0].lower()
        if scheme.startswith("socks") and importlib.util.find_spec("socks") is None:
            return (
                f"{name}: expected a proxy by http://, found one by {scheme}://, which nothing here speaks: "
                "name an HTTP proxy, or unset it"
            )
    return ""


def explained(cause: str, env: Mapping[str, str]) -> str:
    """Why a transfer failed, with what is wrong with the variables that it went by."""
    return "; ".join(filter(None, (cause, fault(env))))


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:
        return False
