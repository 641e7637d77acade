"""Is this file the benchmark's own dataset? Counts, checksums, prompt.

Names and addresses: README of mlcommons/inference language/llama3.1-8b, and the script
get-dataset-cnndm of mlcommons/mlperf-automations (its name of the edge file is the second).
Checksums: the SHA-256 in ../pins.py, else the MD5 list that MLCommons' own store gives in this very run. A
list beside the file says whether the file is whole, and never that it is the official one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ... import rules
from ...errors import MissingError, UsageError
from ...records.files import JsonObject, digests
from .. import pins
from ..fetch.publisher import Announce, Announcement
from . import store
from .rows import Content, read


@dataclass(frozen=True)
class Official:
    """One official file. `uri_name`: its metadata file in the R2 store, without `.uri`. `scored`: whether
    answers are compared with its summaries."""

    names: tuple[str, ...]
    uri_name: str
    rows: int
    sha256: str | None
    scored: bool = True


OFFICIAL = {
    rules.DATACENTER: Official(
        ("cnn_eval.json",),
        "llama3-1-8b-cnn-eval",
        rules.SAMPLE_COUNT[rules.DATACENTER],
        pins.CNN_EVAL,
    ),
    rules.EDGE: Official(
        ("sample_cnn_eval_5000.json", "cnn_eval_5000.json"),
        "llama3-1-8b-sample-cnn-eval-5000",
        rules.SAMPLE_COUNT[rules.EDGE],
        pins.SAMPLE_CNN_EVAL_5000,
    ),
}
# `verified_by` of a file whose SHA-256 is pinned.
PINNED = "SHA-256"
_MD5_LINE = re.compile(r"([0-9a-f]{32})\s+\*?(?:\S*/)?([^\s/]+)")


@dataclass(frozen=True)
class Examined:
    """What is known of a file, from its bytes as they are now.

    `verified_by`: the checksum that says it is the official one, empty where none does, with `unverified`
    the reason. `mismatches`: what sets its content apart from the official file's; none if verified.
    """

    rows: int
    sha256: str
    verified_by: str
    mismatches: tuple[str, ...] = ()
    unverified: str = ""
    details: JsonObject = field(default_factory=dict)

    @property
    def eligible(self) -> bool:
        return bool(self.verified_by)

    @property
    def reason(self) -> str:
        """Why it is not eligible; empty if it is."""
        return "" if self.eligible else "; ".join((*self.mismatches, self.unverified))


def examine(path: Path, category: str, announce: Announce) -> Examined:
    """Read and judge a file for a category. `announce`: asks MLCommons' store, where no pin knows the file.

    UsageError: a fault in the file, an MD5 list beside it that it does not match, or no summary to score
    with.
    """
    return examine_as(path, OFFICIAL[category], announce)


def examine_as(path: Path, official: Official, announce: Announce) -> Examined:
    """The same for a file that `official` describes."""
    try:
        sha256, md5 = digests(path)
    except OSError as error:
        raise store.unreadable(path, error) from None
    listed = _listed_md5(path)
    if listed and listed != md5:
        raise UsageError(f"{path}: corrupted: expected MD5 {listed} as listed beside it, found {md5}")
    if sha256 == official.sha256:
        # With the very file's checksum its content need not be looked at.
        return Examined(official.rows, sha256, PINNED, details={"md5": md5, "proof": PINNED})
    content = read(path)
    if official.scored and not content.can_be_scored:
        raise UsageError(
            f"{path}: expected reference summaries to score with, found none with a word that ROUGE counts "
            "(English letters and digits)"
        )
    verified_by, unverified, announced = "", "", None
    try:
        announced = _announced(path, md5, len(content.rows), official, announce)
        verified_by = announced.verified_by
    except MissingError as error:
        unverified = str(error)
    mismatches = () if verified_by else tuple(_mismatches(content, official))
    details: JsonObject = {
        "md5": md5,
        "proof": verified_by or None,
        "announcement": announced.record() if announced else None,
        "rows_with_tok_input": sum(row.tok_input is not None for row in content.rows),
    }
    return Examined(len(content.rows), sha256, verified_by, mismatches, unverified, details)


def _announced(path: Path, md5: str, rows: int, official: Official, announce: Announce) -> Announcement:
    """The announcement that names the file's own MD5; MissingError says why there is none."""
    unknown = f"no published checksum verifies the file{'' if official.sha256 else ' (none is pinned)'}"
    if rows != official.rows:
        raise MissingError(unknown)
    try:
        announced = announce()
    except MissingError as error:
        raise MissingError(f"{unknown}: {error}") from None
    if md5 not in {announced.of(name) for name in (path.name, *official.names)}:
        raise MissingError(f"{unknown}: {announced.url} announces another file")
    return announced


def find(folder: Path, category: str) -> Path | None:
    """The official file in a folder or one level below it, by name; the category's own first."""
    others = [name for official in OFFICIAL.values() for name in official.names]
    for name in dict.fromkeys((*OFFICIAL[category].names, *others)):
        paths = sorted((*folder.glob(name), *folder.glob(f"*/{name}")))
        if paths:
            return paths[0]
    return None


def is_pinned(sha256: str) -> bool:
    return sha256 in {*(official.sha256 for official in OFFICIAL.values()), pins.CALIBRATION}


def names(category: str) -> Sequence[str]:
    return OFFICIAL[category].names


def _mismatches(content: Content, official: Official) -> list[str]:
    """What sets the content apart from the official file's."""
    mismatches = []
    if len(content.rows) != official.rows:
        mismatches.append(f"it has {len(content.rows)} rows and the official file {official.rows}")
    if any(row.tok_input is None for row in content.rows):
        mismatches.append("not every row has token ids (tok_input)")
    elif (content.instruction or "").replace("{input}", "{article}") != rules.PROMPT_TEMPLATE:
        mismatches.append("its instruction is not the reference prompt")
    return mismatches + content.wordless()


def _listed_md5(path: Path) -> str | None:
    """The MD5 that a list beside the file (as MLCommons' downloader leaves it) gives for it."""
    for listing in sorted(path.parent.glob("*.md5")):
        try:
            text = listing.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for line in text.splitlines():
            match = _MD5_LINE.fullmatch(line.strip())
            if match and match[2] == path.name:
                return match[1]
    return None
