"""The accuracy score: LoadGen's accuracy log against the reference summaries.

Equal to mlcommons/inference language/llama3.1-8b/evaluation.py (with `--dtype int32`) to
the last printed digit, from files alone: no GPU, and no network once the NLTK data is here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .. import rules
from ..errors import UsageError
from ..loadgen import logs
from ..records.files import digest, write_text
from ..records.run_folder import RunFolder
from ..records.schema import Accuracy, Provenance, Provided
from . import accuracy_text, gate

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def score_log(
    accuracy_json: Path,
    references: Sequence[str],
    tokenizer_dir: Path,
    workers: int | None,
    progress: Progress | None = None,
    *,
    data: Path | None = None,
    quick: bool = False,
) -> Accuracy:
    """Score a whole log: sample i is answered against `references[i]`.

    rouge1, rouge2, rougeL and rougeLsum are mean f-measures x 100, standard_errors those of the
    means, gen_len counts characters of all predictions, gen_num the predictions. `data` is the NLTK
    data folder (None: where NLTK looks by itself). With `quick` the word overlap comes along, as
    `word_overlap`.
    """
    import numpy as np

    from . import overlap, processes
    from .responses import decode, read_responses

    responses = read_responses(accuracy_json, len(references))
    predictions = decode(list(responses.values()), tokenizer_dir)
    expected = [references[index] for index in responses]
    pairs = processes.score_pairs(predictions, expected, workers, data, progress)
    # NumPy's mean and rounding differ from Python's in the last digit; the official script
    # uses NumPy's.
    columns = [[pair.f_measures[at] for pair in pairs] for at in range(len(rules.ROUGE_KEYS))]
    rouge1, rouge2, rouge_l, rouge_l_sum = (float(round(np.mean(c) * 100, 4)) for c in columns)
    errors = [float(round(np.std(c, ddof=1) * 100 / len(c) ** 0.5, 4)) for c in columns if len(c) > 1]
    return Accuracy(
        rouge1=rouge1,
        rouge2=rouge2,
        rougeL=rouge_l,
        rougeLsum=rouge_l_sum,
        gen_len=sum(pair.characters for pair in pairs),
        gen_num=len(pairs),
        standard_errors=dict(zip(rules.ROUGE_KEYS, errors, strict=False)) or None,
        word_overlap=overlap.overlap(predictions, expected) if quick else None,
    )


def compute_scores(
    run: RunFolder,
    scenario: str,
    workers: int | None,
    progress: Progress | None = None,
    env: Mapping[str, str] | None = None,
) -> Accuracy:
    """Scores of a run's accuracy log, from the very dataset and tokenizer of the run. Writes nothing."""
    from . import nltk_data

    provenance = run.read(Provenance)
    references = _references(run, provenance)
    _, tokenizer = _provided(run, provenance.model, "model")
    dataset = provenance.dataset or Provided()
    return score_log(
        run.log_dir(scenario, "accuracy") / logs.ACCURACY,
        references,
        tokenizer,
        workers,
        progress,
        data=nltk_data.ensure(run.config().cache_path, env or {}, official=dataset.eligible is True),
        quick=dataset.source == "synthetic",
    )


def score_run(
    run: RunFolder,
    scenario: str,
    workers: int | None,
    progress: Progress | None = None,
    env: Mapping[str, str] | None = None,
) -> Accuracy:
    """Score a run's accuracy log and write `<scenario>/accuracy/accuracy.txt`.

    Besides the scores: `targets` and `passed`, None where the run does not cover the full set.
    """
    scores, config = compute_scores(run, scenario, workers, progress, env), run.config()
    log = run.log_dir(scenario, "accuracy") / logs.ACCURACY
    write_text(scores_file(run, scenario), accuracy_text.text(scores, digest(log)))
    full = run.read(Provenance).samples == config.full_sample_count
    targets = gate.targets(gate.values(scores), config.category, full)
    return replace(scores, targets=targets, passed=gate.passed(targets))


def scores_file(run: RunFolder, scenario: str) -> Path:
    """The scores in MLCommons' form, which LoadGen's accuracy log came to."""
    return run.log_dir(scenario, "accuracy") / accuracy_text.NAME


def _provided(run: RunFolder, provided: Provided | None, kind: str) -> tuple[Provided, Path]:
    if provided is None or not provided.path:
        raise UsageError(
            f"{run.file(Provenance.FILE)}: expected the {kind} that served this run, found none; "
            "run the benchmark again"
        )
    return provided, Path(provided.path)


def _references(run: RunFolder, provenance: Provenance) -> list[str]:
    """The reference summaries of the run's samples, from the very file it ran on."""
    from ..sources.dataset.rows import read_rows

    dataset, path = _provided(run, provenance.dataset, "dataset")
    rows, samples = read_rows(path), provenance.samples
    if dataset.sha256 and digest(path) != dataset.sha256:
        raise UsageError(
            f"{path}: expected the file that the run was made on (sha256 {dataset.sha256}), found "
            "another; bring it back, or run the benchmark again"
        )
    if samples is None or not 0 < samples <= len(rows):
        raise UsageError(
            f"{run.file(Provenance.FILE)}: expected samples from 1 to {len(rows)} (the rows of {path}), "
            f"found {samples}"
        )
    return [row.reference for row in rows[:samples]]
