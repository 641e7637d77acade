"""Which hosts of the fallback chains can be reached: all probed at once, with one short deadline."""

from __future__ import annotations

import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..config import Config
from ..machine import route
from .finding import OK, WARN, Finding

PROBE_S = 3.0
DEADLINE_S = 4.5
OFF = ("1", "true", "yes", "on")


@dataclass
class Probes:
    """Probes under way. `purposes`: what each URL is for; `failures`: why not, empty where it was reached."""

    purposes: dict[str, str]
    deadline: float
    failures: dict[str, str] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    skipped: str = ""
    fault: str = ""


def proxies(env: Mapping[str, str]) -> dict[str, str]:
    urls = {name: env.get(f"{name}_proxy") or env.get(f"{name.upper()}_PROXY") for name in ("http", "https")}
    return {name: url for name, url in urls.items() if url}


def probe(url: str, env: Mapping[str, str]) -> str:
    """Empty when the host answers, whatever its status; else the reason in a few words."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies(env)))
    try:
        opener.open(urllib.request.Request(url, method="HEAD"), timeout=PROBE_S).close()
    except urllib.error.HTTPError:
        return ""
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            return "its certificate is not trusted here: set MLPERF_CA_BUNDLE to your proxy's"
        return str(error.reason)
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def start(config: Config, env: Mapping[str, str]) -> Probes:
    """Probe every host in a thread of its own; a name server that hangs holds nothing up."""
    hub = env.get("HF_ENDPOINT") or "https://huggingface.co"
    purposes = {
        hub: "the Hugging Face sources",
        config.r2_base_url: "the MLCommons sources",
        "https://github.com": "mlcr's scripts",
    }
    probes = Probes(purposes, time.monotonic() + DEADLINE_S, fault=route.fault(env))
    if env.get("HF_HUB_OFFLINE", "").lower() in OFF:
        probes.skipped = "not asked, HF_HUB_OFFLINE is set"
        return probes
    for url in purposes:
        probes.threads.append(threading.Thread(target=_run, args=(probes, url, env), daemon=True))
    for thread in probes.threads:
        thread.start()
    return probes


def _run(probes: Probes, url: str, env: Mapping[str, str]) -> None:
    probes.failures[url] = probe(url, env)


def finish(probes: Probes) -> list[Finding]:
    """What was known by the deadline."""
    if probes.skipped:
        return [Finding("network", OK, probes.skipped)]
    for thread in probes.threads:
        thread.join(max(0.0, probes.deadline - time.monotonic()))
    failures = dict(probes.failures)
    findings = [Finding("network", WARN, *probes.fault.rsplit(": ", 1))] if probes.fault else []
    for url, purpose in probes.purposes.items():
        host = url.split("//")[-1].split("/")[0]
        reason = failures.get(url, f"no answer in {DEADLINE_S:g} s")
        if not reason:
            findings.append(Finding("network", OK, f"{host} answers ({purpose})"))
        else:
            remedy = "the fallback chain goes on to the next source"
            findings.append(Finding("network", WARN, f"{host} ({purpose}): {reason}", remedy))
    return findings
