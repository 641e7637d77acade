"""Reads a dataset file: a JSON array or JSON Lines, with MLCommons' field names or the hub's.

MLCommons' cnn_eval.json is an array of objects with `instruction` (the prompt with a place for the
article), `input` (the article), `tok_input` (token ids of the filled prompt) and `output` (the reference
summary); the hub's rows have `article` and `highlights`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ...errors import UsageError
from ...records.files import JsonObject

# Article and reference summary: MLCommons' names, the hub's.
MLCOMMONS_FIELDS = ("input", "output")
HUB_FIELDS = ("article", "highlights")
FORMATS = "a JSON array or JSON Lines, with input and output as in cnn_eval.json, or article and highlights"
# What ROUGE counts as a part of a word, in lower case (rouge_score's tokenize.py).
COUNTED = re.compile("[a-z0-9]")


@dataclass(frozen=True, slots=True)
class Row:
    """One sample. `tok_input`: the whole prompt's token ids, where the file holds them."""

    article: str
    reference: str
    tok_input: tuple[int, ...] | None


@dataclass(frozen=True)
class Content:
    """A whole file. `instruction`: its first row's prompt template, None where it has none."""

    rows: list[Row]
    instruction: str | None

    @property
    def can_be_scored(self) -> bool:
        """Whether any summary has a word that ROUGE counts."""
        return any(COUNTED.search(row.reference.lower()) for row in self.rows)

    def wordless(self) -> list[str]:
        """How many articles and summaries have no word that ROUGE counts, in words; empty if none."""
        kinds = {"articles": [r.article for r in self.rows], "summaries": [r.reference for r in self.rows]}
        return [fault for kind, texts in kinds.items() if (fault := _wordless(kind, texts))]


def read_rows(path: Path) -> list[Row]:
    """Every row of the file, in its order. UsageError as `read` says."""
    return read(path).rows


def read(path: Path) -> Content:
    """Every row and the instruction.

    UsageError, naming the file, the row (counted from 1) and the field: missing, empty,
    not UTF-8, broken JSON, a row without a field, a field of the wrong type.
    """
    text = _read_text(path)
    array = text.lstrip().startswith("[")
    items = _array(path, text) if array else _lines(path, text)
    expected = MLCOMMONS_FIELDS if array else HUB_FIELDS
    instruction: str | None = None
    rows = []
    for number, item in items:
        if not isinstance(item, dict):
            raise UsageError(
                f"{path}: row {number}: expected a JSON object, found one of type {type(item).__name__}"
            )
        fields = _fields(item, expected)
        rows.append(_row(path, number, item, fields))
        if number == 1 and fields == MLCOMMONS_FIELDS:
            instruction = _instruction(item)
    if not rows:
        raise UsageError(f"{path}: expected {FORMATS}, found no row")
    return Content(rows, instruction)


def _wordless(kind: str, texts: list[str]) -> str:
    numbers = [number for number, text in enumerate(texts, 1) if not COUNTED.search(text.lower())]
    if not numbers:
        return ""
    count, one = len(numbers), {"articles": "article", "summaries": "summary"}[kind]
    has = f"{one} has" if count == 1 else f"{kind} have"
    return f"{count} {has} no word that ROUGE counts (the first: row {numbers[0]})"


def _fields(item: JsonObject, expected: tuple[str, str]) -> tuple[str, str]:
    """The names that the row has; the format's usual ones where it has neither pair."""
    pairs = (expected, MLCOMMONS_FIELDS, HUB_FIELDS)
    return next((pair for pair in pairs if all(name in item for name in pair)), expected)


def _read_text(path: Path) -> str:
    try:
        # A byte order mark is no part of the text.
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: expected a dataset file, found none") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: expected UTF-8 text, found other bytes at {error.start}") from None
    except OSError as error:
        raise UsageError(f"{path}: expected a dataset file, could not read it: {error.strerror}") from None
    if not text.strip():
        raise UsageError(f"{path}: expected {FORMATS}, found an empty file")
    return text


def _array(path: Path, text: str) -> Iterator[tuple[int, object]]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected {FORMATS}, found broken JSON: {error}") from None
    yield from enumerate(data, 1)


def _lines(path: Path, text: str) -> Iterator[tuple[int, object]]:
    # Only "\n" ends a line: JSON text may hold other line separators. Blank lines hold no row.
    lines = (line for line in text.split("\n") if line.strip())
    for number, line in enumerate(lines, 1):
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{path}: row {number}: expected a JSON object on this line, found broken JSON: {error}"
            ) from None


def _row(path: Path, number: int, item: JsonObject, fields: tuple[str, str]) -> Row:
    article, reference = (_text(path, number, item, field) for field in fields)
    ids = item.get("tok_input") if fields == MLCOMMONS_FIELDS else None
    if ids is not None and not (isinstance(ids, list) and ids and set(map(type, ids)) == {int}):
        raise UsageError(f"{path}: row {number}: field tok_input: expected a list of token ids")
    return Row(article, reference, None if ids is None else tuple(ids))


def _text(path: Path, number: int, item: JsonObject, field: str) -> str:
    value = item.get(field)
    where = f"{path}: row {number}: field {field}: expected text"
    if field not in item:
        raise UsageError(f"{where}, found no such field (only {', '.join(item) or 'none'})")
    if not isinstance(value, str):
        raise UsageError(f"{where}, found type {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{where}, found an unpaired surrogate") from None
    return value


def _instruction(item: JsonObject) -> str | None:
    """The reference's own script writes the table {"llama": template} here."""
    instruction = item.get("instruction")
    template = instruction.get("llama") if isinstance(instruction, dict) else instruction
    return template if isinstance(template, str) else None
