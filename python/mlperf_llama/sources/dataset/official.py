"""Is this file the benchmark's own dataset? Counts, checksums, prompt.

Names and addresses: README of mlcommons/inference language/llama3.1-8b, and the script
get-dataset-cnndm of mlcommons/mlperf-automations (its name of the edge file is the second).
Checksums: MLCommons publishes an MD5 list beside each file in its R2 store and nowhere else;
a download from there is checked against it. The SHA-256 below are pinned by one public
MLPerf launcher for that very download; they can prove a file, but a mismatch alone proves
nothing, and a file that matches neither is not called official.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ... import rules
from ...errors import UsageError
from ...records.files import JsonObject, digests
from . import store
from .rows import Content, read


@dataclass(frozen=True)
class Official:
    """One category's file. `uri_name`: its metadata file in the R2 store, without `.uri`."""

    names: tuple[str, ...]
    uri_name: str
    rows: int
    sha256: str


OFFICIAL = {
    rules.DATACENTER: Official(
        ("cnn_eval.json",),
        "llama3-1-8b-cnn-eval",
        rules.SAMPLE_COUNT[rules.DATACENTER],
        "6d066a21bd615909466885d53b664b73c5aabc32d60c1cbd03f4293de6430026",
    ),
    rules.EDGE: Official(
        ("sample_cnn_eval_5000.json", "cnn_eval_5000.json"),
        "llama3-1-8b-sample-cnn-eval-5000",
        rules.SAMPLE_COUNT[rules.EDGE],
        "2d1a21eadd8ef7547d2f5fba939a9e1886a22ee926fe3781cb8934d3a01445db",
    ),
}
# `verified_by` of a file whose SHA-256 stands in OFFICIAL.
PINNED = "SHA-256"
_MD5_LINE = re.compile(r"([0-9a-f]{32})\s+\*?(?:\S*/)?([^\s/]+)")


@dataclass(frozen=True)
class Examined:
    """What is known of a file.

    `verified_by`: the checksum that says it is the official one, empty where none does.
    `mismatches`: what sets its content apart from the official file's.
    """

    rows: int
    sha256: str
    verified_by: str
    mismatches: tuple[str, ...]
    details: JsonObject = field(default_factory=dict)

    @property
    def eligible(self) -> bool:
        return bool(self.verified_by) and not self.mismatches

    @property
    def reason(self) -> str:
        """Why it is not eligible; empty if it is."""
        unverified = () if self.verified_by else ("no published checksum verifies the file",)
        return "" if self.eligible else "; ".join((*self.mismatches, *unverified))


def examine(path: Path, category: str, verified_by: str = "") -> Examined:
    """Read and judge a file for a category. `verified_by`: a checksum that its caller has checked.

    UsageError: a fault in the file, or an MD5 list beside it that it does not match.
    """
    official = OFFICIAL[category]
    try:
        sha256, md5 = digests(path)
    except OSError as error:
        raise store.unreadable(path, error) from None
    listed = _listed_md5(path)
    if listed and listed != md5:
        raise UsageError(f"{path}: corrupted: expected MD5 {listed} as listed beside it, found {md5}")
    content = read(path)
    if sha256 == official.sha256:
        verified_by = PINNED
    elif listed and not verified_by:
        verified_by = "the MD5 list beside the file"
    # With the very file's checksum its content need not be looked at.
    mismatches = () if verified_by == PINNED else tuple(_mismatches(content, official))
    with_ids = sum(row.tok_input is not None for row in content.rows)
    details: JsonObject = {"md5": md5, "proof": verified_by or None, "rows_with_tok_input": with_ids}
    return Examined(len(content.rows), sha256, verified_by, mismatches, details)


def find(folder: Path, category: str) -> Path | None:
    """The official file in a folder or one level below it, by name; the category's own first."""
    others = [name for official in OFFICIAL.values() for name in official.names]
    for name in dict.fromkeys((*OFFICIAL[category].names, *others)):
        paths = sorted((*folder.glob(name), *folder.glob(f"*/{name}")))
        if paths:
            return paths[0]
    return None


def is_pinned(sha256: str) -> bool:
    return any(sha256 == official.sha256 for official in OFFICIAL.values())


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
    return mismatches


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
