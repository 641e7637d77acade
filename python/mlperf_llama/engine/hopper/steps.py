"""The steps of the self-check: eight made-up prompts, whole and in chunks, beside others' next tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch

SEED = 18
# Tokens of the longest prompts, where a step has room: with them the first one is as large as takes the
# GEMMs for many rows (gemm.MIN_ROWS). On a CPU a few pages do.
LONGEST, LONGEST_ON_CPU = 1750, 90
# Those of shorter prompts beside them, and of answers.
REST, ANSWERS = 64, 6


class Row(NamedTuple):
    """A sequence in a step: `tokens` behind its `past`."""

    sequence: int
    past: int
    tokens: int


class Step(NamedTuple):
    """A step's tensors as vLLM's model and attention take them; `wanted`: whose logits are compared."""

    input_ids: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    starts: torch.Tensor
    lengths: torch.Tensor
    block_table: torch.Tensor
    wanted: torch.Tensor


def longest_prompt(wanted: int, max_model_len: int, step_tokens: int) -> int:
    """Tokens of the longest prompt that model and step have room for; the first step holds 2.5 of them."""
    return max(4, min(wanted, max_model_len - ANSWERS, (step_tokens - REST) * 2 // 5))


def plan(longest: int, sequences: int = 8) -> list[list[Row]]:
    """Steps in order, answers before prompts as vLLM has them; with fewer `sequences` the first ones alone.

    Few keys weigh much each, so that a single one that is missing shows; of many, all warps and pages work.
    """
    half = longest // 2
    # What each sequence brings to each step.
    tokens = (
        (half, longest - half, 1, 1, 1, 1, 1),
        (longest, 1, 1, 1, 1, 1, 1),
        (2, 1, 1, 1, 1, 1, 1),
        (max(3, longest - 7), 1, 1, 1, 1, 1, 1),
        (0, 3, 1, 1, 1, 1, 1),
        (0, 0, 45, 1, 1, 1, 1),
        (0, 0, 0, 17, 15, 1, 1),
        (0, 0, 20, 1, 1, 1, 1),
    )[:sequences]
    past = [0] * len(tokens)
    steps = []
    for of_step in zip(*tokens, strict=True):
        rows = [Row(i, past[i], n) for i, n in enumerate(of_step) if n]
        steps.append(sorted(rows, key=lambda row: row.tokens > 1))
        past = [before + n for before, n in zip(past, of_step, strict=True)]
    return steps


def lengths(steps: Sequence[Sequence[Row]]) -> list[int]:
    """Tokens of each sequence in the end."""
    ends: dict[int, int] = {}
    for row in (row for step in steps for row in step):
        ends[row.sequence] = row.past + row.tokens
    return [ends[sequence] for sequence in sorted(ends)]


def made_up_tokens(lengths: Sequence[int], vocabulary: int) -> list[torch.Tensor]:
    """Random ids, the same in every process: the rules allow no real prompt before a run."""
    draw = torch.Generator().manual_seed(SEED)
    low = min(1000, vocabulary // 2)
    return [torch.randint(low, vocabulary, (n,), generator=draw) for n in lengths]


def block_tables(lengths: Sequence[int], page: int) -> torch.Tensor:
    """Pages of each sequence in a mixed order, from 1 on: vLLM keeps page 0 for padding."""
    counts = [-(-n // page) for n in lengths]
    draw = torch.Generator().manual_seed(SEED)
    order = torch.randperm(sum(counts), generator=draw) + 1
    table = torch.zeros(len(counts), max(counts), dtype=torch.int32)
    for row, (end, count) in enumerate(zip(accumulate(counts), counts, strict=True)):
        table[row, :count] = order[end - count : end]
    return table


def compared(row: Row) -> list[int]:
    """Which of a row's tokens have their logits compared."""
    return sorted({row.tokens // 3, row.tokens // 2, row.tokens - 1})


def places(steps: Sequence[Sequence[Row]], lengths: Sequence[int]) -> list[int]:
    """Where the compared tokens of all steps are, with whole sequences one behind the other."""
    begins = [0, *accumulate(lengths)]
    return [begins[row.sequence] + row.past + at for rows in steps for row in rows for at in compared(row)]


def step_tensors(
    rows: Sequence[Row], prompts: Sequence[torch.Tensor], table: torch.Tensor, page: int
) -> Step:
    """On the CPU."""
    positions = [torch.arange(row.past, row.past + row.tokens) for row in rows]
    placed = list(zip(rows, positions, strict=True))
    starts = [0, *accumulate(row.tokens for row in rows)]
    slots = [table[row.sequence, at // page].long() * page + at % page for row, at in placed]
    wanted = [start + at for start, row in zip(starts, rows, strict=False) for at in compared(row)]
    return Step(
        input_ids=torch.cat([prompts[row.sequence][at] for row, at in placed]).int(),
        positions=torch.cat(positions),
        slots=torch.cat(slots),
        starts=torch.tensor(starts, dtype=torch.int32),
        lengths=torch.tensor([row.past + row.tokens for row in rows], dtype=torch.int32),
        block_table=table[[row.sequence for row in rows]],
        wanted=torch.tensor(wanted),
    )
