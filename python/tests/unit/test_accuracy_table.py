"""benchmarks/gpu/accuracy_table.py: what made-up answers and log probabilities say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks" / "gpu"))

import accuracy_table

ANSWERS = [[5, 6, 7], [8, 9]]


def run(shift: float, answers: list[list[int]] = ANSWERS) -> dict[str, Any]:
    """Log probabilities of -1, and `shift` beside it for the first article, twice as far for the second."""
    values = [[-1.0 + shift * number] * len(answer) for number, answer in enumerate(answers, 1)]
    return {"engine": {}, "answers": answers, "decoded": values, "forced": values}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [([1, 2, 3], [1, 2, 4], 2), ([1], [2], 0), ([1, 2], [1, 2, 3], 2), ([], [1], 0), ([1, 2], [1, 2], 2)],
)
def test_tokens_until_answers_part(one: list[int], other: list[int], same: int) -> None:
    assert accuracy_table.common(one, other) == same


def test_differences_have_errors_over_articles() -> None:
    found = accuracy_table.differences(run(-0.1), run(0.0))
    assert found["forced"]["tokens"] == 5 and found["forced"]["articles"] == 2
    assert found["forced"]["mean"] == pytest.approx(-0.15) and found["forced"]["size"] == pytest.approx(0.15)
    assert found["forced"]["mean_error"] == pytest.approx(0.05)
    assert (found["first"]["tokens"], found["later"]["tokens"]) == (2, 3)


def test_own_answers_count_as_far_as_both_are_the_same() -> None:
    parted = accuracy_table.differences(run(-0.1, [[5, 6, 1], [7, 9]]), run(0.0))
    assert parted["forced"]["tokens"] == 5
    assert (parted["first"]["tokens"], parted["later"]["tokens"]) == (1, 1)
    apart = accuracy_table.differences(run(-0.1, [[1, 6, 7], [7, 9]]), run(0.0))
    assert apart["first"] == apart["later"] == {"tokens": 0}


def test_scores_are_paired() -> None:
    base = np.array([[10.0] * 4, [30.0] * 4])
    found = accuracy_table.scores(base + np.array([[1.0], [3.0]]), base)["rougeL"]
    expected = {"mean": 22.0, "error": 11.0, "difference": 2.0, "difference_error": 1.0}
    assert found == pytest.approx(expected)


def test_the_table_names_what_failed_and_needs_no_rouge(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(accuracy_table, "rouge_of", lambda *_: ({}, "no nltk"))
    for name, shift in (("bf16", 0.0), ("int8", -0.2)):
        (tmp_path / f"{name}.json").write_text(json.dumps(run(shift)))
    accuracy_table.write(tmp_path, tmp_path, tmp_path, ["bf16", "int8", "fp8"], {"fp8": "exit code 1"})
    found = json.loads((tmp_path / accuracy_table.FILE).read_text())
    assert found["rouge_missing"] == "no nltk" and list(found["precisions"]) == ["bf16", "int8"]
    lines = accuracy_table.table(found).splitlines()
    assert [line.split()[0] for line in lines] == ["precision", "bf16", "int8", "fp8"]
    assert "-0.3000" in lines[2] and "exit code 1" in lines[3]
