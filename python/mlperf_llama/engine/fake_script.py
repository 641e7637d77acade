"""The fake engine's script: what it may hold, and its check.

The setting FAKE, a JSON object, every key optional:

    output_tokens   tokens per answer, or [low, high] to vary with the prompt; default the limit
    answer          "echo": the answer is the prompt's own text (default); or a list of token ids
    ttft_ms         from the start of a request's service to its first token; default 0
    tpot_ms         between one token and the next; default 0
    samples_per_s   requests leave a single queue at this pace; default no queue
    concurrency     requests in service at once, the others wait; default no limit
    busy_tpot_ms    added to tpot_ms for each other request in service; default 0
    load_s          how long loading takes; default 0
    fault           "missing": not here; "die_at_load"; {"die_at": n}: dead after n answers;
                    {"hang_at": n}: silent after n answers;
                    {"out_of_memory": n}: so many GiB are missing when it loads
    member          of several engines the one that has the fault; default each
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError

COUNTED_FAULTS = ("die_at", "hang_at", "out_of_memory")
KEYS = (
    "output_tokens",
    "answer",
    "ttft_ms",
    "tpot_ms",
    "samples_per_s",
    "concurrency",
    "busy_tpot_ms",
    "load_s",
    "fault",
    "member",
)


def check_script(script: Mapping[str, Any]) -> None:
    """UsageError on a key or a value that means nothing."""
    unknown = [key for key in script if key not in KEYS]
    if unknown:
        raise UsageError(f"FAKE: expected keys among {', '.join(KEYS)}, found {unknown[0]!r}")
    for key in ("ttft_ms", "tpot_ms", "busy_tpot_ms", "load_s"):
        if not (_is_number(script.get(key, 0)) and script.get(key, 0) >= 0):
            raise UsageError(f"FAKE: {key}: expected a number of 0 or more, found {script[key]!r}")
    for key in ("samples_per_s", "concurrency"):
        if not (_is_number(script.get(key, 1)) and script.get(key, 1) > 0):
            raise UsageError(f"FAKE: {key}: expected a number above 0, found {script[key]!r}")
    tokens = script.get("output_tokens", 1)
    bounds = tokens if isinstance(tokens, list) else [tokens, tokens]
    if len(bounds) != 2 or not all(isinstance(b, int) for b in bounds) or not 1 <= bounds[0] <= bounds[1]:
        raise UsageError(f"FAKE: output_tokens: expected a count or [low, high], found {tokens!r}")
    answer = script.get("answer", "echo")
    scripted = isinstance(answer, list) and answer and all(isinstance(t, int) for t in answer)
    if answer != "echo" and not scripted:
        raise UsageError(f'FAKE: answer: expected "echo" or a list of token ids, found {answer!r}')
    if not isinstance(script.get("member", 0), int):
        raise UsageError(f"FAKE: member: expected a number, found {script['member']!r}")
    fault = script.get("fault", "missing")
    at = isinstance(fault, dict) and len(fault) == 1 and next(iter(fault)) in COUNTED_FAULTS
    if fault not in ("missing", "die_at_load") and not at:
        counted = ", ".join(f'{{"{name}": n}}' for name in COUNTED_FAULTS)
        raise UsageError(f'FAKE: fault: expected "missing", "die_at_load", {counted}, found {fault!r}')


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
