"""The accuracy log as a submission holds it: both ends, and the whole one's hash.

Source: mlcommons/inference tools/submission/truncate_accuracy_log.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..records.files import digest, write_text

VIEWABLE = 4096
GAP = "\n\n...\n\n"
LARGEST = 10 * 1024


def truncated(text: str) -> str:
    """The first and the last 4096 characters; a shorter text stays whole."""
    return text if len(text) < VIEWABLE else text[:VIEWABLE] + GAP + text[-VIEWABLE:]


def write(log: Path, scores: Path, target: Path) -> str:
    """Write the truncated log and accuracy.txt with its hash into `target`; gives the hash."""
    sha256 = digest(log)
    write_text(target / log.name, truncated(log.read_text(encoding="utf-8")))
    lines = [x for x in scores.read_text(encoding="utf-8").splitlines() if not re.match(r"hash=", x)]
    body = "\n".join(lines).rstrip("\n")
    write_text(target / scores.name, f"{body}\n\nhash={sha256}\n")
    return sha256
