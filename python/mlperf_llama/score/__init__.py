"""The accuracy score: LoadGen's accuracy log against the reference summaries.

Equal to mlcommons/inference language/llama3.1-8b/evaluation.py (with `--dtype int32`) to
the last printed digit, from files alone: no GPU, and no network once the NLTK data is here.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import rules
from ..config import Config
from ..errors import UsageError
from ..records.files import write_text
from ..records.run_folder import RunFolder

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
LOG_NAME = "mlperf_log_accuracy.json"
TEXT_NAME = "accuracy.txt"


def score_log(
    accuracy_json: Path,
    references: Sequence[str],
    tokenizer_dir: Path,
    workers: int | None,
    progress: Progress | None = None,
    *,
    data: Path | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """Score a whole log: sample i is answered against `references[i]`.

    rouge1, rouge2, rougeL and rougeLsum are mean f-measures x 100, gen_len counts characters
    of all predictions, gen_num the predictions. `data` is the NLTK data folder (None: where
    NLTK looks by itself). With `quick` the word overlap comes along, as `word_overlap`.
    """
    import numpy as np

    from . import overlap, processes
    from .responses import decode, read_answers

    answers = read_answers(accuracy_json, len(references))
    predictions = decode(list(answers.values()), tokenizer_dir)
    wanted = [references[index] for index in answers]
    pairs = processes.score_pairs(predictions, wanted, workers, data, progress)
    result: dict[str, Any] = {
        # NumPy's mean and rounding differ from Python's in the last digit; the official
        # script uses NumPy's.
        key: float(round(np.mean([pair.f_measures[at] for pair in pairs]) * 100, 4))
        for at, key in enumerate(rules.ROUGE_KEYS)
    }
    result["gen_len"] = sum(pair.characters for pair in pairs)
    result["gen_num"] = len(pairs)
    if quick:
        result["word_overlap"] = overlap.overlap(predictions, wanted)
    return result


def score_run(
    run: RunFolder,
    scenario: str,
    workers: int | None,
    progress: Progress | None = None,
    env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Score a run's accuracy log from its files and write `<scenario>/accuracy/accuracy.txt`.

    Besides the scores: `targets` ({name: {low, high, met}}) and `passed`, null where the run
    does not cover the full set.
    """
    from . import nltk_data

    config = Config.from_json(run.read_raw("config.json"))
    provenance = run.read_raw("provenance.json")
    references = _references(run, provenance)
    accuracy = run.log_dir(scenario, "accuracy")
    result = score_log(
        accuracy / LOG_NAME,
        references,
        Path(_part(run, provenance, "model")["path"]),
        workers,
        progress,
        data=nltk_data.ensure(config.cache_path, env or {}),
        quick=_part(run, provenance, "dataset").get("source") == "synthetic",
    )
    write_text(accuracy / TEXT_NAME, accuracy_text(result, _sha256(accuracy / LOG_NAME)))
    full = len(references) == config.full_sample_count
    return {**result, **gate(result, config.category, full)}


def accuracy_text(result: Mapping[str, Any], sha256: str) -> str:
    """The official script's line, and the hash that the submission checker looks for."""
    line: dict[str, Any] = {key: f"{result[key]}" for key in rules.ROUGE_KEYS}
    line.update({key: int(result[key]) for key in ("gen_len", "gen_num")})
    return f"{line}\nhash={sha256}\n"


def gate(result: Mapping[str, Any], category: str, full: bool) -> dict[str, Any]:
    """The 99% targets of the checker; null short of the full set."""
    reference = rules.REFERENCE_SCORES[category]
    bounds: dict[str, tuple[float, float | None]] = {
        key: (reference[key] * rules.ACCURACY_TIER, None) for key in rules.ROUGE_KEYS
    }
    low, high = rules.GEN_LEN_RANGE
    bounds["gen_len"] = (reference["gen_len"] * low, reference["gen_len"] * high)
    bounds["gen_num"] = (reference["gen_num"], reference["gen_num"])
    targets = {
        key: {
            "low": least,
            "high": most,
            "met": result[key] >= least and (most is None or result[key] <= most) if full else None,
        }
        for key, (least, most) in bounds.items()
    }
    passed = all(target["met"] for target in targets.values()) if full else None
    return {"targets": targets, "passed": passed}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _part(run: RunFolder, provenance: Mapping[str, Any], kind: str) -> dict[str, Any]:
    part = provenance.get(kind)
    if not isinstance(part, dict) or not part.get("path"):
        raise UsageError(
            f"{run.file('provenance.json')}: expected the {kind} that served this run, found none; "
            "run the benchmark again"
        )
    return part


def _references(run: RunFolder, provenance: Mapping[str, Any]) -> list[str]:
    """The reference summaries of the run's samples, from the very file it ran on."""
    from ..sources.dataset.rows import read_rows

    served = _part(run, provenance, "dataset")
    path, samples = Path(served["path"]), provenance.get("samples")
    rows = read_rows(path)
    if served.get("sha256") and _sha256(path) != served["sha256"]:
        raise UsageError(
            f"{path}: expected the file that the run was made on (sha256 {served['sha256']}), found "
            "another; bring it back, or run the benchmark again"
        )
    if not isinstance(samples, int) or not 0 < samples <= len(rows):
        raise UsageError(
            f"{run.file('provenance.json')}: expected samples from 1 to {len(rows)} (the rows of {path}), "
            f"found {samples}"
        )
    return [row.reference for row in rows[:samples]]
