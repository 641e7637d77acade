"""accuracy.txt: the official script's line of scores and the hash of the log they are of."""

from __future__ import annotations

import re
from pathlib import Path

from .. import rules
from ..records.schema import Accuracy

NAME = "accuracy.txt"
# The official checker's own patterns (constants.py, ACC_PATTERN), which it matches at a line's
# beginning: a score it cannot read is a score that is not there.
PATTERNS = {
    **{key: rf".*'{key}':\s+'?([\d.]+)'?" for key in rules.ROUGE_KEYS},
    "gen_len": r".*'gen_len':\s([\d.]+)",
    "gen_num": r".*'gen_num':\s([\d.]+)",
}


def text(scores: Accuracy, sha256: str) -> str:
    """As the official script writes it, and the hash that the submission checker looks for."""
    line: dict[str, object] = {key: f"{getattr(scores, key)}" for key in rules.ROUGE_KEYS}
    line |= {key: int(getattr(scores, key)) for key in ("gen_len", "gen_num")}
    return f"{line}\nhash={sha256}\n"


def read(path: Path) -> tuple[dict[str, float], str | None]:
    """The scores and the hash in accuracy.txt; whatever is not there is left out."""
    scores: dict[str, float] = {}
    sha256 = None
    content = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in content.splitlines():
        for key, pattern in PATTERNS.items():
            match = re.match(pattern, line)
            if match and key not in scores:
                scores[key] = float(match.group(1))
        match = re.match(r"^hash=([\w\d]+)$", line)
        sha256 = match.group(1) if match else sha256
    return scores, sha256
