"""Articles by their ids out of the training part's parquet files, as JSON Lines.

Usage: python -m mlperf_llama.sources.calibration.training_rows REPOSITORY REVISION TARGET FILE...
A process of its own, because the hub's library retries and waits as it pleases. Prints the files' paths.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import MissingError, PipelineError
from . import official


def lines(parquet: Sequence[Path], ids: Sequence[str]) -> Iterator[str]:
    """A line for each id, in the order of `ids`. MissingError: an article is not there."""
    import pyarrow
    import pyarrow.compute
    from pyarrow.parquet import read_table

    articles: dict[str, str] = {}
    for path in parquet:
        try:
            table = read_table(path, columns=["id", "article", "highlights"])
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise MissingError(f"{path}: expected a parquet file, could not read it: {error}") from None
        wanted = pyarrow.array(sorted(set(ids)), table.schema.field("id").type)
        for row in table.filter(pyarrow.compute.is_in(table["id"], wanted)).to_pylist():
            pair = {"article": row["article"], "highlights": row["highlights"]}
            articles[row["id"]] = json.dumps(pair, ensure_ascii=False) + "\n"
    if missing := [name for name in ids if name not in articles]:
        raise MissingError(
            f"expected {len(ids)} calibration articles, found {missing[0]} missing, one of {len(missing)}"
        )
    return (articles[name] for name in ids)


def main(repository: str, revision: str, target: str, names: Sequence[str]) -> None:
    from huggingface_hub import hf_hub_download

    parquet = [
        Path(hf_hub_download(repository, name, repo_type="dataset", revision=revision)).resolve()
        for name in names
    ]
    with open(target, "w", encoding="utf-8") as out:
        out.writelines(lines(parquet, official.article_ids()))
    sys.stdout.write(json.dumps([str(path) for path in parquet]))


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
    except PipelineError as error:
        sys.exit(str(error))
