"""Scores an accuracy log again from the responses, before a closed submission is packed.

The scores in a run folder are files like others: what is packed as closed is what the
logged tokens, the dataset and the tokenizer give once more.
"""

from __future__ import annotations

from collections.abc import Callable

from .. import score
from ..errors import PipelineError
from ..records.run_folder import RunFolder
from ..records.schema import Accuracy, Check
from ..score import accuracy_text, gate
from ..verdict.check import check

Rescore = Callable[[RunFolder, str], Accuracy]


def scores(run: RunFolder, scenario: str) -> Accuracy:
    """The scores of the accuracy log, computed again."""
    return score.compute_scores(run, scenario, run.config().score_workers)


def checks(run: RunFolder, scenario: str, rescore: Rescore) -> list[Check]:
    """The scores made again must be those of accuracy.txt, to the last digit."""
    name, fix = f"{scenario}.rescored", "run the score verb again, on the machine that made the run"
    recorded, _ = accuracy_text.read(run.log_dir(scenario, "accuracy") / accuracy_text.NAME)
    try:
        again = gate.values(rescore(run, scenario))
    except (PipelineError, OSError, ValueError) as error:
        return [Check(name, False, str(error), fix)]
    mismatches = [f"{k} {recorded.get(k)}, again {v}" for k, v in again.items() if recorded.get(k) != v]
    return [check(name, not mismatches, "; ".join(mismatches) or "scored again, the same", fix)]
