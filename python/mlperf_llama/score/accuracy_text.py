"""accuracy.txt: the official script's line of scores and the hash of the log they are of."""

from __future__ import annotations

import re
from collections.abc import Iterable
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
    """The scores and the hash in accuracy.txt; whatever is not there, or no number, is left out."""
    scores: dict[str, float] = {}
    sha256 = None
    for line in _text(path).splitlines():
        for key, pattern in PATTERNS.items():
            match = re.match(pattern, line)
            number = _number(match.group(1)) if match else None
            if number is not None and key not in scores:
                scores[key] = number
        match = re.match(r"^hash=([\w\d]+)$", line)
        sha256 = match.group(1) if match else sha256
    return scores, sha256


def faults(path: Path) -> dict[str, str]:
    """By score, why MLCommons' checker does not read what is meant; empty where it does."""
    content = _text(path)
    if "\ufffd" in content:
        return dict.fromkeys(PATTERNS, f"{NAME} is not UTF-8")
    words = {key: _fault(key, pattern, content.splitlines()) for key, pattern in PATTERNS.items()}
    return {key: fault for key, fault in words.items() if fault}


def _fault(key: str, pattern: str, lines: Iterable[str]) -> str:
    lines = list(lines)
    stated = [match.group(1) for line in lines if (match := re.match(pattern, line))]
    if not_a_number := [text for text in stated if _number(text) is None]:
        return f"written as {not_a_number[0]}, which is no number"
    if len(set(map(_number, stated))) > 1:
        return f"stated as {' and as '.join(stated[:3])}: state it once"
    call = next((m for line in lines if (m := re.search(rf"'{key}':\s*'?([\w.]+)\(", line))), None)
    if not stated and call:
        return f"written as {call.group(1)}(...), which MLCommons' checker cannot read: write the number"
    return ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
