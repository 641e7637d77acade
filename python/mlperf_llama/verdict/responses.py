"""Checks of each logged response: its sample, its length and its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .. import rules
from ..loadgen.accuracy_log import Response


def index_faults(responses: Sequence[Response], count: int) -> list[str]:
    """Indices that are not there exactly once, in words."""
    seen = Counter(response.index for response in responses)
    missing = [i for i in range(count) if i not in seen]
    repeated = [i for i, times in seen.items() if times > 1]
    foreign = [i for i in seen if not 0 <= i < count]
    return [
        f"{len(indices)} {fault}, the first {indices[0]}"
        for fault, indices in (("missing", missing), ("repeated", repeated), ("unknown", foreign))
        if indices
    ]


def length_faults(responses: Iterable[Response]) -> list[str]:
    """Responses that are empty or longer than the benchmark's limit."""
    return [
        f"sample {r.index}: {len(r.tokens)} tokens"
        for r in responses
        if not rules.MIN_NEW_TOKENS <= len(r.tokens) <= rules.MAX_NEW_TOKENS
    ]


def ending_faults(responses: Iterable[Response]) -> list[str]:
    """Responses that do not end as the model ends: one EOS at most, last, and there if short.

    A response under the limit without an EOS was cut, or comes from another model.
    """
    faults = []
    for response in responses:
        ends = [i for i, token in enumerate(response.tokens) if token in rules.EOS_IDS]
        last = len(response.tokens) - 1
        if len(ends) > 1:
            faults.append(f"sample {response.index}: {len(ends)} EOS tokens")
        elif ends and ends[0] != last:
            faults.append(f"sample {response.index}: EOS at {ends[0]} of {last + 1} tokens")
        elif not ends and len(response.tokens) < rules.MAX_NEW_TOKENS:
            faults.append(f"sample {response.index}: {last + 1} tokens and no EOS")
    return faults


def summary(faults: Sequence[str], good: str) -> str:
    """The first faults and how many there are, or `good`."""
    if not faults:
        return good
    return "; ".join(faults[:3]) + (f"; {len(faults)} in all" if len(faults) > 3 else "")
