"""Turns a dataset file into prompts: token ids, once, kept in the cache.

The whole result is one .npz file, so it is either complete or absent; its CRCs find a
damaged one, which is made again.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ... import rules
from ...errors import MissingError, UsageError
from ...records import files
from . import official, store
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


class Tokenizer(Protocol):
    """Of a transformers tokenizer, what is used."""

    def __call__(
        self, text: list[str], *, return_attention_mask: bool, verbose: bool
    ) -> Mapping[str, list[list[int]]]: ...


class Samples:
    """Prompts and references by index; `lengths` are the prompts' in tokens."""

    def __init__(self, tokens: Int32, starts: Int64, references: list[str]) -> None:
        """`tokens`: all prompts in a row; `starts`: where each begins, and where the last ends."""
        self.references = references
        self.count = len(references)
        self.lengths: Int32 = np.diff(starts).astype(np.int32)
        # Lists, made before anything is timed; equal ids share one int, which saves two thirds.
        ids = np.arange(int(tokens.max(initial=0)) + 1).astype(object)[tokens].tolist()
        self._prompts: list[list[int]] = [ids[a:b] for a, b in itertools.pairwise(starts.tolist())]

    def prompt(self, index: int) -> list[int]:
        """Token ids of one prompt; not a copy."""
        return self._prompts[index]


def prepare(
    dataset_path: Path,
    model_dir: Path,
    cache_dir: Path,
    count: int,
    reference_tokenizer: bool,
    max_prompt: int,
    progress: Progress | None = None,
    use_cache: bool = True,
    expected_sha256: str | None = None,
) -> Samples:
    """The first `count` samples of the file as prompts of the model.

    With `reference_tokenizer` the file's own token ids are used where it has them.
    `max_prompt`: tokens; `progress` is called with samples done and in all. `use_cache` False: a run
    that may be submitted makes its prompts of the dataset's bytes, whatever an earlier one has kept.
    UsageError: the file is not that of `expected_sha256`, as its source served it, has a fault or too few
    rows, its token ids are not the tokenizer's, or a prompt is longer than `max_prompt`. MissingError: the
    model has no tokenizer.
    """
    try:
        sha256 = files.digest(dataset_path)
    except OSError as error:
        raise store.unreadable(dataset_path, error) from None
    if expected_sha256 not in (None, sha256):
        raise UsageError(
            f"{dataset_path}: expected the file that was served (sha256 {expected_sha256}), found {sha256}; "
            "it was replaced meanwhile: run again"
        )
    key = _key(sha256, model_dir, count, reference_tokenizer)
    cached = cache_dir / f"{key}.npz"
    samples = _load(cached, count) if use_cache else None
    if samples is None:
        rows = read_rows(dataset_path)
        if count > len(rows):
            raise UsageError(
                f"SAMPLES: expected at most {len(rows)}, the rows of {dataset_path}, found {count}"
            )
        rows = rows[:count]
        tokenizer = load_tokenizer(model_dir)
        use_own = reference_tokenizer and any(row.tok_input is not None for row in rows)
        if use_own:
            _check_own_ids(dataset_path, rows, tokenizer, is_official=official.is_pinned(sha256))
        ids = _all_ids(rows, tokenizer, use_own, progress)
        starts = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        parts = (np.concatenate(ids), starts, [row.reference for row in rows])
        _save(cached, *parts)
        samples = Samples(*parts)
    _check_lengths(dataset_path, samples, max_prompt)
    return samples


def _key(sha256: str, model_dir: Path, count: int, reference_tokenizer: bool) -> str:
    """Changes with anything that the prompts depend on."""
    digest = hashlib.sha256("\0".join((FORMAT, sha256, rules.PROMPT_TEMPLATE)).encode())
    paths = [model_dir / name for name in TOKENIZER_FILES if (model_dir / name).is_file()]
    if not paths:
        raise MissingError(f"{model_dir}: expected a tokenizer (tokenizer.json), found none")
    for path in paths:
        digest.update(path.name.encode() + b"\0" + bytes.fromhex(files.digest(path)))
    digest.update(bytes([reference_tokenizer]))
    return f"prompts-{count}-{digest.hexdigest()[:24]}"


def _all_ids(
    rows: Sequence[Row], tokenizer: Tokenizer, use_own: bool, progress: Progress | None
) -> list[Int32]:
    """Each row's prompt; with `use_own`, the file's own token ids where it has them."""
    ids: list[Int32] = []
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        missing = iter(_encode(tokenizer, [row for row in batch if not use_own or row.tok_input is None]))
        for row in batch:
            own = row.tok_input if use_own and row.tok_input is not None else next(missing)
            ids.append(np.asarray(own, dtype=np.int32))
        if progress:
            progress(len(ids), len(rows))
    return ids


def load_tokenizer(model_dir: Path) -> Tokenizer:
    """MissingError: the model has none that can be loaded."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(model_dir, local_files_only=True)
        return tokenizer
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingError(f"{model_dir}: expected a tokenizer, could not load it: {reason}") from None


def _encode(tokenizer: Tokenizer, rows: Sequence[Row]) -> list[list[int]]:
    """Token ids of the filled prompts, with the special tokens that the tokenizer adds (BOS for Llama)."""
    if not rows:
        return []
    prompts = [rules.PROMPT_TEMPLATE.format(article=row.article) for row in rows]
    # Not `verbose`: its warning of long prompts is _check_lengths' business.
    return tokenizer(prompts, return_attention_mask=False, verbose=False)["input_ids"]


def _check_own_ids(path: Path, rows: Sequence[Row], tokenizer: Tokenizer, is_official: bool) -> None:
    """The file's token ids must be those of the model's tokenizer: both claim to be the reference's.

    With `is_official`, the file is the official one, whose ids are the benchmark's input whatever this
    version of the tokenizer says; a difference is then only a warning.
    """
    with_ids = [at for at, row in enumerate(rows) if row.tok_input is not None]
    chosen = with_ids[:: max(1, len(with_ids) // CHECKED)]
    for at, ids in zip(chosen, _encode(tokenizer, [rows[at] for at in chosen]), strict=True):
        own = rows[at].tok_input or ()
        if list(own) == ids:
            continue
        pairs = zip(own, ids, strict=False)
        where = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(own), len(ids)))
        message = (
            f"{path}: row {at + 1}: field tok_input: expected the {len(ids)} token ids that the model's "
            f"tokenizer gives, found {len(own)}, the first other one at {where}"
        )
        if not is_official:
            raise UsageError(message)
        log.warning("official_tokens_differ message=%s", message)
        return


def _check_lengths(path: Path, samples: Samples, max_prompt: int) -> None:
    longest = int(samples.lengths.argmax())
    tokens = int(samples.lengths[longest])
    if tokens > max_prompt:
        raise UsageError(
            f"{path}: row {longest + 1}: expected a prompt of at most {max_prompt} tokens, the model's "
            f"limit, found {tokens}; leave the row out or take a model with a longer context"
        )


def _load(path: Path, count: int) -> Samples | None:
    """A cached result, or None if there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            tokens, starts = stored["tokens"], stored["starts"]
            references = json.loads(stored["references"].tobytes())
        if len(references) == count == len(starts) - 1 and int(starts[-1]) == len(tokens):
            return Samples(tokens, starts, references)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("cached_prompts_damaged path=%s reason=%s action=make_again", path, error)
        return None
    log.warning("cached_prompts_damaged path=%s reason=counts action=make_again", path)
    return None


def _save(path: Path, tokens: Int32, starts: Int64, references: list[str]) -> None:
    """Keep the result; without a cache the run goes on, only slower the next time."""
    text = np.frombuffer(json.dumps(references).encode(), dtype=np.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.atomic(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, tokens=tokens, starts=starts, references=text)
    except OSError as error:
        log.warning("prompts_not_cached path=%s reason=%s", path, error.strerror)
