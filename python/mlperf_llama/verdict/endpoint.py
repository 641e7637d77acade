"""Checks of servers that are the engine: what their probe proved, and what every answer of the runs says.

A server cannot show which weights it loaded: whatever else is proved, it is the speed of an endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..records.schema import Check, ProbedServer
from .check import check
from .evidence import Evidence

NOT_A_RESULT = "speed of an endpoint, not an MLPerf result"
FIX_WEIGHTS = "run with ENGINE=vllm, which hashes the weights that it loads"
Fault = Callable[[ProbedServer], str]


def faults(server: ProbedServer) -> dict[str, str]:
    """By check: what keeps the server's speed from being a result; empty where it is proved."""
    most, limit = server.most_tokens, server.limit_tokens
    return {
        "endpoint_ids": _ids(server),
        "endpoint_limit": f"answers of {most} tokens where {limit} are allowed" if most > limit else "",
        "endpoint_greedy": _greedy(server),
        "endpoint_prefix_cache": (
            "" if server.prefix_cache is False else f"prefix cache: {server.prefix_cache_shown_by}"
        ),
        "endpoint_streaming": (
            "sends its first token together with all others" if server.streams is False else ""
        ),
        "endpoint_weights": "the hash of the weights that it loaded cannot be shown over HTTP",
    }


def _greedy(server: ProbedServer) -> str:
    if server.greedy is None:
        return "does not show that it decodes greedily"
    return "" if server.greedy else "answers two equal prompts differently: not greedy"


def _ids(server: ProbedServer) -> str:
    if not server.ids_out:
        return f"no token ids come out ({server.dialect})"
    if server.ids_in is None:
        return "does not show which token ids went in"
    return "" if server.ids_in else "was given other token ids than were sent"


def reason(servers: Sequence[ProbedServer]) -> str:
    """Why this is no result, in one line: the first fault of the first server that has one."""
    first = next(((s, fault) for s in servers for fault in faults(s).values() if fault), None)
    return f"{first[0].address}: {first[1]}" if first else "no server was probed"


def checks(evidence: Evidence) -> list[Check]:
    """None where the engine is no server."""
    servers = evidence.provenance.endpoints or ()
    if not servers and not (evidence.config and evidence.config.endpoints):
        return []
    by_name: dict[str, list[str]] = {name: [] for name in FIXES}
    for server in servers:
        for name, fault in faults(server).items():
            if fault:
                by_name[name].append(f"{server.address}: {fault}")
    for name, counter, words in COUNTED:
        count = sum(mode.get(counter, 0) for mode in _counters(evidence))
        if count:
            by_name[name].append(f"{count:g} {words}")
    return [_check(name, len(servers), by_name[name], fix) for name, fix in FIXES.items()]


def _check(name: str, servers: int, reasons: Sequence[str], fix: str) -> Check:
    why = "; ".join(reasons) or "no server was probed"
    passed = servers > 0 and not reasons
    return check(name, passed, f"{servers} probed" if passed else f"{NOT_A_RESULT}: {why}", fix)


def _counters(evidence: Evidence) -> list[dict[str, float]]:
    modes = [
        mode
        for scenario in evidence.scenarios
        for mode in (
            scenario.recorded.performance,
            scenario.recorded.accuracy,
            scenario.recorded.compliance,
        )
    ]
    return [mode.counters for mode in modes if mode and mode.counters]


FIXES = {
    "endpoint_ids": "measure a server that takes and gives token ids (docs/endpoints.md)",
    "endpoint_limit": "start the server so that it keeps max_tokens",
    "endpoint_greedy": "start the server so that it keeps temperature 0",
    "endpoint_prefix_cache": "start the server without prefix caching, and so that it shows that",
    "endpoint_streaming": "take away what collects the server's stream on the way here",
    "endpoint_weights": FIX_WEIGHTS,
}
# Check, counter of the engine, and its words.
COUNTED = (
    ("endpoint_ids", "miscounted", "answers with other than as many ids as the server counts"),
    ("endpoint_ids", "not_echoed", "answers to other prompts than were sent"),
    ("endpoint_limit", "over_limit", "answers with more tokens than allowed"),
    ("endpoint_prefix_cache", "cached_tokens", "tokens of prompts were reused"),
)
