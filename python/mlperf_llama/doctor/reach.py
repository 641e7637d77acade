"""Which hosts of the chains can be reached: all asked at once, with one short deadline."""

from __future__ import annotations

import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..config import Config
from .finding import OK, WARN, Finding

ANSWER_S = 3.0
DEADLINE_S = 4.5
OFF = ("1", "true", "yes", "on")


@dataclass
class Asked:
    """Questions under way: host -> what it is for; answers arrive in `answers`."""

    purposes: dict[str, str]
    deadline: float
    answers: dict[str, str] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    skipped: str = ""


def proxies(env: Mapping[str, str]) -> dict[str, str]:
    found = {name: env.get(f"{name}_proxy") or env.get(f"{name.upper()}_PROXY") for name in ("http", "https")}
    return {name: value for name, value in found.items() if value}


def ask(url: str, env: Mapping[str, str]) -> str:
    """Empty when the host answers, whatever its status; else the reason in a few words."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies(env)))
    try:
        opener.open(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_S).close()
    except urllib.error.HTTPError:
        return ""
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            return "its certificate is not trusted here: set MLPERF_CA_BUNDLE to your proxy's"
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def start(config: Config, env: Mapping[str, str]) -> Asked:
    """Ask every host in a thread of its own; a name server that hangs holds nothing up."""
    hub = env.get("HF_ENDPOINT") or "https://huggingface.co"
    purposes = {
        hub: "the Hugging Face rungs",
        config.r2_base_url: "the MLCommons rungs",
        "https://github.com": "mlcr's scripts",
    }
    asked = Asked(purposes, time.monotonic() + DEADLINE_S)
    if env.get("HF_HUB_OFFLINE", "").lower() in OFF:
        asked.skipped = "not asked, HF_HUB_OFFLINE is set"
        return asked
    for url in purposes:
        asked.threads.append(threading.Thread(target=_answer, args=(asked, url, env), daemon=True))
    for thread in asked.threads:
        thread.start()
    return asked


def _answer(asked: Asked, url: str, env: Mapping[str, str]) -> None:
    asked.answers[url] = ask(url, env)


def finish(asked: Asked) -> list[Finding]:
    """The answers that came before the deadline."""
    if asked.skipped:
        return [Finding("network", OK, asked.skipped)]
    for thread in asked.threads:
        thread.join(max(0.0, asked.deadline - time.monotonic()))
    answers = dict(asked.answers)
    found = []
    for url, purpose in asked.purposes.items():
        host = url.split("//")[-1].split("/")[0]
        reason = answers.get(url, f"no answer in {DEADLINE_S:g} s")
        if not reason:
            found.append(Finding("network", OK, f"{host} answers ({purpose})"))
        else:
            remedy = "the chain goes on to the next rung without it"
            found.append(Finding("network", WARN, f"{host} ({purpose}): {reason}", remedy))
    return found
