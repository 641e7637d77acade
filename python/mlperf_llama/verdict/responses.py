"""Reads LoadGen's accuracy log and checks each logged answer's tokens.

A record's `data` is the answer as int32 in hex; in TEST06's log `token_data` is the
first token as reported on its own and `token_count` the length LoadGen was told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import rules


@dataclass(frozen=True, slots=True)
class Answer:
    """One record: the sample's index and its token ids."""

    index: int
    tokens: tuple[int, ...]
    first: tuple[int, ...] | None = None
    count: int | None = None


def tokens_of(data: str) -> tuple[int, ...]:
    """Little-endian int32 in hex -> token ids; ValueError where it is not."""
    raw = bytes.fromhex(data)
    if len(raw) % 4:
        raise ValueError(f"{len(raw)} bytes are not whole int32 tokens")
    return tuple(memoryview(raw).cast("i"))


def _answer(item: Any) -> Answer:
    count, first = item.get("token_count"), item.get("token_data")
    return Answer(
        int(item["qsl_idx"]),
        tokens_of(item["data"]),
        None if first is None else tokens_of(first),
        None if count is None else int(count),
    )


def read(path: Path) -> list[Answer]:
    """Every record of an accuracy log; ValueError where it is absent or not one."""
    try:
        return [_answer(item) for item in json.loads(path.read_bytes())]
    except FileNotFoundError:
        raise ValueError(f"no {path.name}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path.name} is not a whole accuracy log: {error}") from None


def index_faults(answers: Sequence[Answer], count: int) -> list[str]:
    """Indices that are not there exactly once, in words."""
    seen: dict[int, int] = {}
    for answer in answers:
        seen[answer.index] = seen.get(answer.index, 0) + 1
    missing = [i for i in range(count) if i not in seen]
    repeated = [i for i, times in seen.items() if times > 1]
    foreign = [i for i in seen if not 0 <= i < count]
    return [
        f"{len(found)} {word}, the first {found[0]}"
        for word, found in (("missing", missing), ("repeated", repeated), ("unknown", foreign))
        if found
    ]


def length_faults(answers: Iterable[Answer]) -> list[str]:
    """Answers that are empty or longer than the benchmark's limit."""
    return [
        f"sample {a.index}: {len(a.tokens)} tokens"
        for a in answers
        if not rules.MIN_NEW_TOKENS <= len(a.tokens) <= rules.MAX_NEW_TOKENS
    ]


def ending_faults(answers: Iterable[Answer]) -> list[str]:
    """Answers that do not end as the model ends: one EOS at most, last, and there if short.

    An answer under the limit without an EOS was cut, or comes from another model.
    """
    faults = []
    for answer in answers:
        ends = [i for i, token in enumerate(answer.tokens) if token in rules.EOS_IDS]
        last = len(answer.tokens) - 1
        if len(ends) > 1:
            faults.append(f"sample {answer.index}: {len(ends)} EOS tokens")
        elif ends and ends[0] != last:
            faults.append(f"sample {answer.index}: EOS at {ends[0]} of {last + 1} tokens")
        elif not ends and len(answer.tokens) < rules.MAX_NEW_TOKENS:
            faults.append(f"sample {answer.index}: {last + 1} tokens and no EOS")
    return faults


def summary(faults: Sequence[str], good: str) -> str:
    """The first faults and how many there are, or `good`."""
    if not faults:
        return good
    return "; ".join(faults[:3]) + (f"; {len(faults)} in all" if len(faults) > 3 else "")
