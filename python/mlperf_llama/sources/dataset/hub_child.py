"""Fetches a parquet file from the hub and writes its rows as JSON Lines; a process of its own.

Usage: hub_child.py REPOSITORY REVISION FILE SAMPLES TARGET. Apart from the package, because
the libraries retry and wait as they please and only a process can be ended at any time.
SAMPLES other than 0 takes that many after shuffling with seed 42, as the reference does
(mlcommons/inference language/llama3.1-8b/download_cnndm.py). Prints the file's
path, whose name is the SHA-256 that the hub announced (its ETag).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from datasets import load_dataset
from huggingface_hub import hf_hub_download

SHUFFLE_SEED = 42


def main(repository: str, revision: str, file: str, samples: int, target: str) -> None:
    # Only the split's own file: load_dataset(repository) would fetch the training set as well.
    path = Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision))
    rows = load_dataset("parquet", data_files={"validation": str(path)}, split="validation")
    if samples:
        rows = rows.shuffle(seed=SHUFFLE_SEED).flatten_indices().take(samples)
    with open(target, "w", encoding="utf-8") as out:
        for row in rows:
            pair = {"article": row["article"], "highlights": row["highlights"]}
            out.write(json.dumps(pair, ensure_ascii=False) + "\n")
    sys.stdout.write(str(path.resolve()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5])
