"""Scores an accuracy log again from the answers, before a closed submission is packed.

The scores in a run folder are files like others: what is packed as closed is what the
logged tokens, the dataset and the tokenizer give once more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import rules, score
from ..errors import InvalidError, PipelineError
from ..records.files import digest
from ..records.run_folder import RunFolder
from ..records.schema import Check, Provenance, Provided
from ..sources.dataset.rows import read_rows
from ..verdict import accuracy
from ..verdict.check import check

Rescore = Callable[[RunFolder, str], dict[str, Any]]


def scores(run: RunFolder, scenario: str) -> dict[str, Any]:
    """ROUGE and lengths of the accuracy log, from the very dataset and tokenizer of the run."""
    from ..score import nltk_data

    config = run.config()
    provenance = run.read(Provenance)
    dataset, model = (part or Provided() for part in (provenance.dataset, provenance.model))
    path = Path(str(dataset.path))
    if not path.is_file() or digest(path) != dataset.sha256:
        raise InvalidError(
            f"{path}: expected the dataset the run used (SHA-256 {dataset.sha256}), found another or "
            "none; pack on the machine that holds it"
        )
    references = [row.reference for row in read_rows(path)]
    log = run.log_dir(scenario, "accuracy") / accuracy.LOG
    return score.score_log(
        log,
        references[: provenance.samples],
        Path(str(model.path)),
        config.score_workers,
        data=nltk_data.ensure(config.cache_path, {}),
    )


def checks(run: RunFolder, scenario: str, rescore: Rescore) -> list[Check]:
    """The scores made again must be those of accuracy.txt, to the last digit."""
    name, fix = f"{scenario}.rescored", "run the score verb again, on the machine that made the run"
    recorded, _ = accuracy.read_text(run.log_dir(scenario, "accuracy") / accuracy.TEXT)
    try:
        found = rescore(run, scenario)
    except (PipelineError, OSError, ValueError, KeyError) as error:
        return [Check(name, False, str(error), fix)]
    keys = (*rules.ROUGE_KEYS, "gen_len", "gen_num")
    wrong = [f"{k} {recorded.get(k)}, again {found.get(k)}" for k in keys if recorded.get(k) != found.get(k)]
    return [check(name, not wrong, "; ".join(wrong) or "scored again, the same", fix)]
