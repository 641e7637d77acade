"""Two accuracy runs on the same articles: the mean difference of their scores, and its standard error.

    python benchmarks/paired_rouge.py RUN OTHER_RUN ARTICLES

RUN: folders of Offline runs. ARTICLES: the JSON Lines both answered, from its first line on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))

from mlperf_llama import config, rules
from mlperf_llama.loadgen import accuracy_log, logs
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Provenance, Provided
from mlperf_llama.score import nltk_data, responses, rouge


def scores(folder: Path, references: list[str]) -> tuple[np.ndarray, list[int]]:
    """(a row of f-measures in percent per sample, the first token of each)."""
    run = RunFolder.open(folder)
    logged = responses.read_responses(run.log_dir("Offline", "accuracy") / logs.ACCURACY, len(references))
    tokens = [logged[index] for index in range(len(references))]
    model = run.read(Provenance).model or Provided()
    texts = responses.decode(tokens, Path(str(model.path)))
    stems = rouge.RememberedStems()
    pairs = zip(texts, references, strict=True)
    rows = [rouge.score_pair(text, reference, stems).f_measures for text, reference in pairs]
    return 100 * np.array(rows), [int(ids[0]) for ids in tokens]


def main(first: Path, second: Path, articles: Path) -> None:
    settings = config.load({}, config.environment())
    nltk_data.use(nltk_data.ensure(settings.cache_path, config.environment()))
    count = len(accuracy_log.read(RunFolder(first).log_dir("Offline", "accuracy") / logs.ACCURACY))
    rows = [json.loads(line) for line in articles.read_text().splitlines()[:count]]
    references = [row["highlights"] for row in rows]
    (one, starts), (other, other_starts) = (scores(folder, references) for folder in (first, second))
    difference = other - one
    error = difference.std(axis=0, ddof=1) / np.sqrt(count)
    for key, a, b, d, e in zip(
        rules.ROUGE_KEYS, one.mean(0), other.mean(0), difference.mean(0), error, strict=True
    ):
        print(f"{key:10} {a:8.4f} {b:8.4f}  {d:+.2f} ({e:.2f})")
    same = sum(a == b for a, b in zip(starts, other_starts, strict=True))
    print(f"first token the same: {same} of {count}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
