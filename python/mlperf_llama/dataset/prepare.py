"""Turns a dataset file into prompts: token ids, once, kept in the cache.

The whole result is one .npz file, so it is either complete or absent; its CRCs find a
damaged one, which is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import rules
from ..errors import MissingError, UsageError
from . import store
from .rows import Row, read_rows

log = logging.getLogger(__name__)

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Progress = Callable[[int, int], None]

FORMAT = "1"
# Prompts tokenised at a time: enough to keep the tokenizer's threads busy.
BATCH = 512
# Rows whose token ids are compared with the tokenizer's: spread over the file, a second's work.
CHECKED = 256
# What decides the tokens, where the model has it.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)


@dataclass(frozen=True)
class Samples:
    """Prompts and references by index. `starts` has one entry more than there are samples."""

    tokens: Int32
    starts: Int64
    references: list[str]

    @property
    def count(self) -> int:
        return len(self.references)

    @property
    def lengths(self) -> Int32:
        """Prompt lengths in tokens."""
        return np.diff(self.starts).astype(np.int32)

    def prompt(self, index: int) -> list[int]:
        ids: list[int] = self.tokens[self.starts[index] : self.starts[index + 1]].tolist()
        return ids


def prepare(
    dataset_path: Path,
    model_dir: Path,
    cache_dir: Path,
    count: int,
    reference_tokenizer: bool,
    max_prompt: int,
    progress: Progress | None = None,
) -> Samples:
    """The first `count` samples of the file as prompts of the model.

    With `reference_tokenizer` the file's own token ids are used where it has them.
    `max_prompt`: tokens; `progress` is called with samples done and in all.
    UsageError: the file has a fault or too few rows, its token ids are not the tokenizer's,
    or a prompt is longer than `max_prompt`. MissingError: the model has no tokenizer.
    """
    sha256, _ = store.digests(dataset_path)
    key = _key(sha256, model_dir, count, reference_tokenizer)
    cached = cache_dir / f"{key}.npz"
    samples = _load(cached, count)
    if samples is None:
        rows = read_rows(dataset_path)
        if count > len(rows):
            raise UsageError(
                f"SAMPLES: expected at most {len(rows)}, the rows of {dataset_path}, found {count}"
            )
        ids = _all_ids(dataset_path, rows[:count], model_dir, reference_tokenizer, progress)
        samples = _pack(ids, [row.reference for row in rows[:count]])
        _save(cached, samples)
    _check_lengths(dataset_path, samples, max_prompt)
    return samples


def _key(sha256: str, model_dir: Path, count: int, reference_tokenizer: bool) -> str:
    """Changes with anything that the prompts depend on."""
    digest = hashlib.sha256("\0".join((FORMAT, sha256, rules.PROMPT_TEMPLATE)).encode())
    found = [model_dir / name for name in TOKENIZER_FILES if (model_dir / name).is_file()]
    if not found:
        raise MissingError(f"{model_dir}: expected a tokenizer (tokenizer.json), found none")
    for path in found:
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    digest.update(bytes([reference_tokenizer]))
    return f"prompts-{count}-{digest.hexdigest()[:24]}"


def _all_ids(
    path: Path, rows: Sequence[Row], model_dir: Path, reference_tokenizer: bool, progress: Progress | None
) -> list[Int32]:
    given = reference_tokenizer and any(row.tok_input is not None for row in rows)
    tokenizer = _tokenizer(model_dir)
    if given:
        _check_given(path, rows, tokenizer)
    ids: list[Int32] = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        missing = iter(_encode(tokenizer, [row for row in batch if not given or row.tok_input is None]))
        for row in batch:
            own = row.tok_input if given and row.tok_input is not None else next(missing)
            ids.append(np.asarray(own, dtype=np.int32))
        if progress:
            progress(len(ids), len(rows))
    return ids


def _tokenizer(model_dir: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingError(f"{model_dir}: expected a tokenizer, could not load it: {reason}") from None


def _encode(tokenizer: Any, rows: Sequence[Row]) -> list[list[int]]:
    """Token ids of the filled prompts, with the special tokens that the tokenizer adds (BOS for Llama)."""
    if not rows:
        return []
    prompts = [rules.PROMPT_TEMPLATE.format(article=row.article) for row in rows]
    # Some tokenizers warn once of prompts longer than their model takes; _check_lengths does that.
    ids: list[list[int]] = tokenizer(prompts, return_attention_mask=False, verbose=False)["input_ids"]
    return ids


def _check_given(path: Path, rows: Sequence[Row], tokenizer: Any) -> None:
    """The file's token ids must be those of the model's tokenizer: both claim to be the reference's."""
    numbers = [at for at, row in enumerate(rows) if row.tok_input is not None]
    chosen = numbers[:: max(1, len(numbers) // CHECKED)]
    for at, ids in zip(chosen, _encode(tokenizer, [rows[at] for at in chosen]), strict=True):
        given = rows[at].tok_input or ()
        if list(given) == ids:
            continue
        pairs = zip(given, ids, strict=False)
        where = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(given), len(ids)))
        raise UsageError(
            f"{path}: row {at + 1}: field tok_input: expected the {len(ids)} token ids that the model's "
            f"tokenizer gives, found {len(given)}, the first other one at {where}"
        )


def _pack(ids: Sequence[Int32], references: list[str]) -> Samples:
    starts = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([len(one) for one in ids], out=starts[1:])
    return Samples(np.concatenate(ids), starts, references)


def _check_lengths(path: Path, samples: Samples, max_prompt: int) -> None:
    longest = int(samples.lengths.argmax())
    found = int(samples.lengths[longest])
    if found > max_prompt:
        raise UsageError(
            f"{path}: row {longest + 1}: expected a prompt of at most {max_prompt} tokens, the model's "
            f"limit, found {found}; leave the row out or take a model with a longer context"
        )


def _load(path: Path, count: int) -> Samples | None:
    """A cached result, or None if there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            tokens, starts = stored["tokens"], stored["starts"]
            references = json.loads(stored["references"].tobytes())
        samples = Samples(tokens, starts, references)
        if len(references) == count == len(starts) - 1 and int(starts[-1]) == len(tokens):
            return samples
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("cached_prompts_damaged path=%s reason=%s action=make_again", path, error)
        return None
    log.warning("cached_prompts_damaged path=%s reason=counts action=make_again", path)
    return None


def _save(path: Path, samples: Samples) -> None:
    """Keep the result; without a cache the run goes on, only slower the next time."""
    references = np.frombuffer(json.dumps(samples.references).encode(), dtype=np.uint8)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, tokens=samples.tokens, starts=samples.starts, references=references)
        os.replace(temporary, path)
    except OSError as error:
        log.warning("prompts_not_cached path=%s reason=%s", path, error.strerror)
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
