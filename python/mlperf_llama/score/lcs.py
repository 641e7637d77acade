"""Longest common subsequences, a whole column of the table at a time in one integer.

rouge_score fills the same table cell by cell in Python, which takes most of its time once
stems are remembered. Here bit i of a column tells whether the table grows from row i to row
i + 1 (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004). The growth bits also
decide each step of rouge_score's way back through the table, ties included: where the two
words differ, the cell is the larger of its upper and its left neighbour, so the left one is
the larger exactly where the cell is larger than the upper one.
"""

from __future__ import annotations

from collections.abc import Sequence

Words = Sequence[str]


def masks(expected: Words) -> dict[str, int]:
    """For each word the rows it stands in, as bits."""
    rows: dict[str, int] = {}
    for row, word in enumerate(expected):
        rows[word] = rows.get(word, 0) | 1 << row
    return rows


def columns(rows: dict[str, int], height: int, predicted: Words) -> list[int]:
    """One integer per word of `predicted`; a bit of 0 marks a row where the table grows."""
    full = (1 << height) - 1
    column, table = full, []
    for word in predicted:
        match = rows.get(word)
        if match:
            both = column & match
            column = (column + both | column ^ both) & full
        table.append(column)
    return table


def length(expected: Words, predicted: Words) -> int:
    """The number of words in a longest common subsequence."""
    if not expected or not predicted:
        return 0
    return len(expected) - columns(masks(expected), len(expected), predicted)[-1].bit_count()


def positions(expected: Words, rows: dict[str, int], predicted: Words) -> set[int]:
    """Where in `expected` the subsequence stands that rouge_score picks among the longest.

    `rows` are `masks(expected)`, made once for many `predicted`.
    """
    table = columns(rows, len(expected), predicted)
    picked: set[int] = set()
    row, column = len(expected) - 1, len(predicted) - 1
    while row >= 0 and column >= 0:
        if expected[row] == predicted[column]:
            picked.add(row)
            row -= 1
            column -= 1
        elif table[column] >> row & 1:
            row -= 1
        else:
            column -= 1
    return picked
