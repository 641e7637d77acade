"""benchmarks/gpu/compare_table.py: what a made-up record of steps says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks" / "gpu"))

import compare_table

ANSWER_MS, PROMPT_US, GAP_MS = 20.0, 11.0, 2.0


def record() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Ten times a mixed step (1,000 to 1,900 prompt tokens) and four of 110 answers; 2 ms idle between."""
    columns: dict[str, list[float]] = {name: [] for name in (
        "tokens", "sequences", "prompts", "gpu_begin", "gpu_end", *compare_table.HOST)}  # fmt: skip
    now = 0.0
    for number in range(10):
        for tokens, sequences, prompts, ms in [
            (1100 + 100 * number, 102, 2, 5 + PROMPT_US * (1000 + 100 * number) / 1000),
            *[(110, 110, 0, ANSWER_MS)] * 4,
        ]:
            now += GAP_MS / 1000
            values = (tokens, sequences, prompts, now, now + ms / 1000, 0.001, 0.003, 0.001, 0.002)
            for column, value in zip(columns.values(), values, strict=True):
                column.append(value)
            now += ms / 1000
    at = np.arange(0.0, now, 0.01)
    steps = {name: np.array(column) for name, column in columns.items()}
    gpu = {"at": at, "power_w": np.full(len(at), 690.0), "instant_w": np.full(len(at), np.nan),
           "sm_clock_mhz": np.linspace(1600, 1500, len(at)), "temperature_c": at * 0 + 60}  # fmt: skip
    whole = {"wall_s": now, "tokens": 128, "energy_j": 256.0, "preemptions": 0, "distinct": 3,
             "core": {"process_s": now / 2, "main_s": now / 4, "gc_s": 0.0}, "front": {"process_s": 0.0},
             "point": {"name": "made up"}}  # fmt: skip
    return whole, steps, gpu


def test_steps_are_told_apart_and_timed() -> None:
    found = compare_table.summary(*record())
    assert found["prompt"] == {"steps": 0}
    assert (found["mixed"]["steps"], found["answer"]["steps"]) == (10, 40)
    assert found["answer"]["gpu_ms"] == pytest.approx(ANSWER_MS)
    assert found["answer"]["host_ms"] == {"schedule": 1.0, "execute": 3.0, "sample": 1.0, "update": 2.0}
    assert found["answer"]["power_w"] == 690 and "instant_w" not in found["answer"]
    assert found["joules_per_token"] == 2.0
    readings = found["mixed"]["readings"] + found["answer"]["readings"]
    assert readings / found["all"]["readings"] == pytest.approx(1 - found["idle_share"], abs=0.03)


def test_idle_time_is_that_between_steps() -> None:
    whole, steps, gpu = record()
    found = compare_table.summary(whole, steps, gpu)
    assert found["idle_share"] == pytest.approx(49 * GAP_MS / 1000 / whole["wall_s"], abs=1e-4)
    assert found["idle_share_answers"] == pytest.approx(GAP_MS / (GAP_MS + ANSWER_MS), abs=1e-4)
    assert (found["gaps"], found["largest_gaps_ms"]) == (49, [GAP_MS] * 5)


def test_the_time_of_a_prompt_token_is_fitted() -> None:
    fitted = compare_table.summary(*record())["fit"]
    assert fitted["us_a_prompt_token"] == pytest.approx(PROMPT_US, rel=1e-3)


def test_every_table_is_written() -> None:
    whole, steps, gpu = record()
    text = compare_table.tables([{**whole, **compare_table.summary(whole, steps, gpu)}])
    assert text.count("made up") == 4
