"""The responses of an accuracy run: one per sample, and as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import BrokeError, UsageError
from ..loadgen import accuracy_log
from ..loadgen.accuracy_log import Tokens

REMEDY = "run accuracy again"


def read_responses(log: Path, count: int) -> dict[int, Tokens]:
    """Token ids by sample index, in the log's order; each of `count` samples answered once.

    A repeated index is dropped as the official script does, but only if it repeats the same
    response (the verdict refuses those too). MissingError without a log; BrokeError where a
    response is missing or damaged.
    """
    responses: dict[int, Tokens] = {}
    for number, response in enumerate(accuracy_log.read(log), 1):
        index = response.index
        if not 0 <= index < count:
            raise BrokeError(
                f"{log}: expected sample indexes from 0 to {count - 1}, found {index} in entry {number}; "
                f"{REMEDY}"
            )
        if responses.setdefault(index, response.tokens) != response.tokens:
            raise BrokeError(
                f"{log}: expected one response for sample {index}, found another in entry {number}; {REMEDY}"
            )
    if len(responses) < count:
        first = next(index for index in range(count) if index not in responses)
        raise BrokeError(
            f"{log}: expected responses for all {count} samples, found {len(responses)}; "
            f"the first missing is sample {first}; {REMEDY}"
        )
    return responses


def decode(responses: Sequence[Tokens], tokenizer_dir: Path) -> list[str]:
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
        tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for tokens in responses
    ]
    if tokenizer.clean_up_tokenization_spaces:
        texts = [tokenizer.clean_up_tokenization(text) for text in texts]
    return texts
