"""What LoadGen's accuracy log says was answered, checked, and as text.

The log is a JSON list, one object an answer: `qsl_idx` (the sample) and `data` (the output
token ids as int32, little-endian, in hexadecimal).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BrokeError, MissingError, UsageError

Tokens = npt.NDArray[np.int32]
TOKEN_BYTES = 4
REMEDY = "run accuracy again"


def read_answers(log: Path, count: int) -> dict[int, Tokens]:
    """Token ids by sample index, in the log's order; each of `count` samples answered once.

    A repeated index is dropped as the official script does, but only if it repeats the same
    answer. MissingError without a log; BrokeError where an answer is missing or damaged.
    """
    answers: dict[int, str] = {}
    for number, entry in enumerate(_entries(log), 1):
        index, data = _fields(log, number, entry)
        if not 0 <= index < count:
            raise BrokeError(
                f"{log}: expected sample indexes from 0 to {count - 1}, found {index} in entry {number}; "
                f"{REMEDY}"
            )
        if answers.setdefault(index, data) != data:
            raise BrokeError(
                f"{log}: expected one answer for sample {index}, found another in entry {number}; {REMEDY}"
            )
    if len(answers) < count:
        first = next(index for index in range(count) if index not in answers)
        raise BrokeError(
            f"{log}: expected answers for all {count} samples, found {len(answers)}; "
            f"the first missing is sample {first}; {REMEDY}"
        )
    return {index: _tokens(log, index, data) for index, data in answers.items()}


def _entries(log: Path) -> list[Any]:
    try:
        entries = json.loads(log.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingError(f"{log}: expected an accuracy log, found none; {REMEDY}") from None
    except OSError as error:
        raise MissingError(f"{log}: expected an accuracy log, could not read it: {error.strerror}") from None
    except ValueError:
        size = log.stat().st_size
        found = "an empty file" if size == 0 else f"{size} bytes that end early or are damaged"
        raise BrokeError(f"{log}: expected a whole JSON list, found {found}; {REMEDY}") from None
    if not isinstance(entries, list) or not entries:
        raise BrokeError(f"{log}: expected a list of answers, found none in it; {REMEDY}")
    return entries


def _fields(log: Path, number: int, entry: Any) -> tuple[int, str]:
    index = entry.get("qsl_idx") if isinstance(entry, dict) else None
    data = entry.get("data") if isinstance(entry, dict) else None
    if type(index) is not int or not isinstance(data, str):
        raise BrokeError(
            f"{log}: expected qsl_idx (a number) and data (text) in each entry, entry {number} "
            f"lacks them; {REMEDY}"
        )
    return index, data


def _tokens(log: Path, index: int, data: str) -> Tokens:
    try:
        raw = bytes.fromhex(data)
    except ValueError:
        raise BrokeError(f"{log}: expected hexadecimal data, sample {index} has other; {REMEDY}") from None
    if len(raw) % TOKEN_BYTES:
        raise BrokeError(
            f"{log}: expected int32 token ids ({TOKEN_BYTES} bytes each), sample {index} has "
            f"{len(raw)} bytes; {REMEDY}"
        )
    tokens = np.frombuffer(raw, "<i4")
    if tokens.size and tokens.min() < 0:
        raise BrokeError(
            f"{log}: expected token ids of 0 or more, sample {index} has {tokens.min()}; {REMEDY}"
        )
    return tokens


def decode(answers: Sequence[Tokens], tokenizer_dir: Path) -> list[str]:
    """Token ids to text, as the official script's own transformers (4.46.2) does it.

    That version tidies spaces before punctuation wherever tokenizer_config.json says
    `clean_up_tokenization_spaces`, as Llama-3.1's does; transformers 5 leaves it out for such
    tokenizers (https://github.com/huggingface/transformers/pull/44915). The reference scores
    were made with it, and gen_len counts characters, so it is done here in every version.
    Neither version has a slow tokenizer for Llama-3.1: `use_fast=False` changes nothing.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir, local_files_only=True)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{tokenizer_dir}: expected the model's tokenizer, found none: {reason}") from None
    texts = [
        tokenizer.decode(one.tolist(), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for one in answers
    ]
    if tokenizer.clean_up_tokenization_spaces:
        texts = [tokenizer.clean_up_tokenization(text) for text in texts]
    return texts
