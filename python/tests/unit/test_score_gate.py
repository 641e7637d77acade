"""The accuracy gate: the official checker's bounds, the same for the score, the verdict and a tree."""

from __future__ import annotations

import pytest

from mlperf_llama import rules
from mlperf_llama.records.schema import Accuracy
from mlperf_llama.score import gate
from mlperf_llama.verdict import accuracy


def scores(category: str, **changes: float) -> dict[str, float | None]:
    return {**rules.REFERENCE_SCORES[category], **changes}


@pytest.mark.parametrize("category", rules.REFERENCE_SCORES)
def test_the_reference_passes_its_own_gate(category: str) -> None:
    targets = gate.targets(scores(category), category, full=True)
    assert gate.passed(targets) is True
    assert list(targets) == [*rules.ROUGE_KEYS, "gen_len", "gen_num"]


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"rouge1": 38.3915}, set()),
        ({"rouge1": 38.3914}, {"rouge1"}),
        ({"rougeLsum": 35.0, "rouge2": 15.7}, {"rougeLsum", "rouge2"}),
        ({"gen_len": 7350880}, set()),
        ({"gen_len": 7350879}, {"gen_len"}),
        ({"gen_len": 8984408}, set()),
        ({"gen_len": 8984409}, {"gen_len"}),
        ({"gen_num": 13367}, {"gen_num"}),
        ({"gen_num": 13369}, {"gen_num"}),
    ],
)
def test_the_gate_is_the_checkers(changes: dict[str, float], missed: set[str]) -> None:
    reached = scores(rules.DATACENTER, **changes)
    targets = gate.targets(reached, rules.DATACENTER, full=True)
    assert {key for key, target in targets.items() if not target.met} == missed
    assert gate.passed(targets) is not bool(missed)
    checks = accuracy.targets("Offline.accuracy", rules.DATACENTER, reached, {})
    assert {c.name.rpartition(".")[2] for c in checks if not c.passed} == missed


def test_short_of_the_full_set_nothing_is_met_or_missed() -> None:
    targets = gate.targets(scores(rules.EDGE, rouge1=0.0), rules.EDGE, full=False)
    assert gate.passed(targets) is None
    assert {target.met for target in targets.values()} == {None}


def test_a_score_that_is_not_there_is_a_miss() -> None:
    targets = gate.targets(gate.values(Accuracy(rouge1=39.0)), rules.DATACENTER, full=True)
    assert gate.passed(targets) is False
    assert {key for key, target in targets.items() if target.met} == {"rouge1"}
    checks = accuracy.targets("Offline.accuracy", rules.DATACENTER, {}, {})
    assert not any(c.passed for c in checks)
