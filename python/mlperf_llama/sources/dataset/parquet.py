"""The rows that the hub's parquet file holds, as hub_child.py writes them: to prove rows by the file.

Edge's rows are the first of those that `datasets` gives after a shuffle with SHUFFLE_SEED, whose order is
numpy's permutation (datasets.Dataset.shuffle).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from ...errors import MissingError

# As in hub_child.py, which imports nothing of this package.
SHUFFLE_SEED = 42


def rows_sha256(file: Path, samples: int) -> str:
    """SHA-256 of the JSON Lines made of the file's rows; `samples` but 0: so many, shuffled."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        table = read_table(file, columns=["article", "highlights"]).to_pydict()
    except (ArrowException, OSError, KeyError) as error:
        raise MissingError(f"{file}: expected a parquet file, could not read it: {error}") from None
    articles, highlights = table["article"], table["highlights"]
    count = len(articles)
    order = np.random.default_rng(SHUFFLE_SEED).permutation(count)[:samples] if samples else range(count)
    digest = hashlib.sha256()
    for at in order:
        pair = {"article": articles[at], "highlights": highlights[at]}
        digest.update(json.dumps(pair, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
