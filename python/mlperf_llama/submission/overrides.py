"""Where system.toml says otherwise than the machine: refused, or stated in the tree with its reason.

A value that only says more, or less, than what was measured is no contradiction: `Intel Xeon Gold 6448Y` for
`INTEL(R) XEON(R) GOLD 6448Y`, `1 TB` for 1007.5 GiB. More is a form factor or a quantity, and of software
further software; another name beside the measured one contradicts it. The reason stands in the table
`[reasons]`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..records.files import JsonObject

TABLE = "reasons"
# The key of a system description that holds what was overridden.
RECORDED = "overrides"
PARTS = ("measured", "stated", "reason")
# A maker's gigabytes, and what the kernel keeps to itself, lie within this of what is measured.
SIZE_TOLERANCE = 0.10
SIZE = re.compile(r"([\d.]+)\s*([KMGTP])(i?)B", re.IGNORECASE)
# What firmware and drivers add to a name.
MARKS = re.compile(r"\((?:r|tm|c)\)", re.IGNORECASE)
# What may be added to a measured name: no word of a maker's, a product's or a denial.
FORMS = re.compile(
    r"(?:sxm|nvl|gen|pcie)\d*|oam|mezzanine|cpu|processors?|sockets?|base|boost|turbo|lts|of|per|each|at"
)
QUANTITY = re.compile(
    r"\b\d+(?:\.\d+)?[ -]?(?:x|w|[mg]hz|[mgt](?:i?b|bit)(?:/s)?|cores?|threads?|lanes?|links?)\b"
    r"|\bkernel [\w.+-]+"
)
# Keys that list software, which may hold more than what was measured.
SOFTWARE = ("framework", "other_software_stack")
DENIALS = {"but", "instead", "no", "not", "or", "rather", "than", "without"}


@dataclass(frozen=True)
class Override:
    """A key for which system.toml stands over the machine."""

    key: str
    measured: str
    stated: str
    reason: str

    def sentence(self) -> str:
        return (
            f"{self.key} is stated as {self.stated}, measured was {self.measured}: {self.reason.rstrip('.')}."
        )


def find(
    path: Path, measured: Mapping[str, object], toml: Mapping[str, object], later: Iterable[str] = ()
) -> list[Override]:
    """What contradicts, each with its reason; UsageError where there is none, or a reason without need.

    `later`: keys that only a finished run tells.
    """
    reasons = {key: text for key, text in _reasons(path, toml).items() if key not in later}
    overrides, missing = [], []
    for key in sorted((set(measured) & set(toml)) - set(later)):
        before, stated = _text(measured[key]), _text(toml[key])
        if not before or agree(key, before, stated):
            continue
        reason = reasons.pop(key, "").strip()
        overrides.append(Override(key, before, stated, reason))
        if not reason:
            missing.append(f"{key}: measured {before}, found {stated}")
    if missing:
        raise UsageError(
            f"{path}: expected what the run measured, found another value ({'; '.join(missing)}); take it "
            f'out, or say why under [{TABLE}], such as {missing[0].split(":")[0]} = "..."'
        )
    if reasons:
        raise UsageError(f"{path}: [{TABLE}]: {', '.join(reasons)} contradicts nothing measured, take it out")
    return overrides


def record(overrides: list[Override]) -> JsonObject:
    """As they stand in the system description."""
    return {o.key: dict(zip(PARTS, (o.measured, o.stated, o.reason), strict=True)) for o in overrides}


def read(recorded: object) -> tuple[list[str], list[str]]:
    """Of a description's overrides: those that lack a part, and a sentence for each whole one."""
    faults, sentences = [], []
    for key, entry in (recorded if isinstance(recorded, dict) else {RECORDED: recorded}).items():
        parts = [entry.get(part) for part in PARTS] if isinstance(entry, dict) else []
        if len(parts) == len(PARTS) and all(isinstance(part, str) and part.strip() for part in parts):
            sentences.append(Override(key, *map(str, parts)).sentence())
        else:
            faults.append(f"{key}: expected {', '.join(PARTS)}, found {entry}")
    return faults, sentences


def agree(key: str, measured: str, stated: str) -> bool:
    """Whether one of the two only says more than the other; numbers and sizes by their value."""
    if key.endswith("_capacity"):
        size, stated_size = _bytes(measured), _bytes(stated)
        if size is not None and stated_size is not None:
            # A further size says what it is made of (16x 64 GB), and not that there is more.
            most = max(_bytes(match[0]) or 0.0 for match in SIZE.finditer(stated))
            return abs(stated_size - size) <= SIZE_TOLERANCE * size >= most - size
    if key.endswith(("_per_node", "_count", "_of_nodes")):
        return measured.strip() == stated.strip()
    before, after = _words(measured), _words(stated)
    if set(before) <= set(after):
        return _only_more(key, before, stated)
    return bool(after) and set(after) <= set(before)


def _only_more(key: str, before: Sequence[str], stated: str) -> bool:
    """Whether a text that holds every measured word adds nothing of another name: no second one of the same
    kind, and of what is no software only forms and quantities."""
    after = _words(stated)
    if any(after.count(word) > before.count(word) for word in before if not word[0].isdigit()):
        return False
    added = set(after) - set(before)
    if key in SOFTWARE:
        return not added & DENIALS
    added -= {word for quantity in QUANTITY.finditer(stated.lower()) for word in _words(quantity[0])}
    return all(FORMS.fullmatch(word) for word in added)


def _reasons(path: Path, toml: Mapping[str, object]) -> dict[str, str]:
    table = toml.get(TABLE, {})
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise UsageError(f"{path}: {TABLE}: expected a table of keys and reasons, found {table!r}")
    return dict(table)


def _text(value: object) -> str:
    """A value of a description in words: a table's names and values one after another."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {content}" for name, content in value.items())
    return str(value)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9.]+", MARKS.sub(" ", text).lower())


def _bytes(text: str) -> float | None:
    """The first size in a text; None where there is none."""
    match = SIZE.search(text)
    if match is None:
        return None
    number, unit, binary = match.groups()
    try:
        return float(number) * math.pow(1024 if binary else 1000, "KMGTP".index(unit.upper()) + 1)
    except ValueError:
        return None
