"""Are these the official weights and tokenizer? Proven by their bytes, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ...errors import MissingError
from ...records.files import digest
from ...rules import EOS_IDS
from ..fetch.publisher import Announce, Announcement
from . import checkpoint, tokens

PINNED = "SHA-256"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class Proof:
    """`verified_by`: what says that every file is the official one; empty, with the reason, if nothing."""

    verified_by: str = ""
    reason: str = ""
    announced: Announcement | None = None


def pinned_only() -> Announcement:
    """The Announce of files that came from no publisher's server."""
    raise MissingError("only the pinned hashes count for a folder or repository that MODEL names")


def trial() -> Announcement:
    """The Announce of a run that cannot be submitted anyway."""
    raise MissingError("a trial run asks no publisher")


def prove(folder: Path, hashes: Mapping[str, str], announce: Announce) -> Proof:
    """`hashes`: SHA-256 of the weight files, of their bytes as they are now.

    `announce`: asks the source's publisher, where a file is not the pinned one.
    """
    reason = checkpoint.other_model(folder)
    if reason:
        return Proof(reason=reason)
    if not tokens.is_reference_tokenizer(folder):
        return Proof(reason="the tokenizer is not Llama 3.1's")
    if more := checkpoint.unproven(folder):
        return Proof(reason=f"{folder} also holds {', '.join(more[:4])}, which the official model has not")
    if set(tokens.stop_ids(folder)) != set(EOS_IDS):
        return Proof(reason=f"answers would end at {tokens.stop_ids(folder)}, not at {EOS_IDS}")
    wrong = _not_pinned(folder, hashes)
    if not wrong:
        return Proof(PINNED)
    differ = f"the weights are not meta-llama/Llama-3.1-8B-Instruct's: {', '.join(wrong[:4])} differ"
    if wrong == [TOKENIZER]:
        differ = "tokenizer.json acts like Llama 3.1's, but its bytes are others"
    try:
        announced = announce()
    except MissingError as error:
        return Proof(reason=f"{differ} from the pinned hashes; {error}")
    other = _not_announced(folder, hashes, wrong, announced)
    if other:
        return Proof(reason=f"{differ}; {announced.url} announces others for {', '.join(other[:4])}")
    return Proof(announced.verified_by, announced=announced)


def _not_pinned(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    names = {*hashes, *checkpoint.SHARDS}
    wrong = sorted(name for name in names if hashes.get(name) != checkpoint.SHARDS.get(name))
    path = folder / TOKENIZER
    tokenizer = path.is_file() and digest(path) == tokens.REFERENCE_SHA256
    return wrong if tokenizer else [*wrong, TOKENIZER]


def _not_announced(
    folder: Path, hashes: Mapping[str, str], wrong: Sequence[str], announced: Announcement
) -> list[str]:
    """The files that the announcement does not name with the hash of their bytes, or that are not here."""
    names = {TOKENIZER} & set(wrong)
    if set(wrong) - names:
        listed = {PurePosixPath(name).name for name in announced.hashes}
        names |= {*hashes, *(name for name in listed if name.endswith(".safetensors"))}
    return sorted(name for name in names if announced.of(name) != _digest(folder / name, announced.algorithm))


def _digest(path: Path, algorithm: str) -> str:
    return digest(path, algorithm) if path.is_file() else "absent"
