"""requests.parquet: when each request of a performance run came, and when its tokens left.

Beside LoadGen's logs of that run, and sealed with them. A row per sample, in the order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeAlias

import numpy as np

from ..errors import MissingError, UsageError
from .files import atomic, refuse_other_than_file

FILE = "requests.parquet"
Integers: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int32]]"
Seconds: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float64]]"
INTEGERS = ("sample", "prompt_tokens", "answer_tokens")


@dataclass(frozen=True)
class Requests:
    """`sample`: its index in the dataset. Seconds since the run's first query, by the monotonic clock of the
    process that holds the engine; `first_token_s` is NaN where nobody asked for the first token (Offline)."""

    sample: Integers
    arrival_s: Seconds
    first_token_s: Seconds
    end_s: Seconds
    prompt_tokens: Integers
    answer_tokens: Integers

    def __len__(self) -> int:
        return len(self.sample)


COLUMNS = tuple(f.name for f in fields(Requests))


def path_in(scenario_dir: Path) -> Path:
    """Where the file stands, in a scenario's folder."""
    return scenario_dir / "performance" / FILE


def write(path: Path, requests: Requests) -> None:
    """Write atomically; nothing else reads or writes this file."""
    import pyarrow
    from pyarrow.parquet import write_table

    columns = {name: pyarrow.array(getattr(requests, name)) for name in COLUMNS}
    with atomic(path) as temporary:
        write_table(pyarrow.table(columns), temporary, compression="zstd")


def read(path: Path) -> Requests:
    """MissingError where there is no such file, UsageError where it is another."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    refuse_other_than_file(path)
    try:
        table = read_table(path, columns=list(COLUMNS))
        arrays = {n: table[n].to_numpy().astype(_kind(n)) for n in table.column_names}
        return Requests(**arrays)
    except FileNotFoundError:
        raise MissingError(f"{path}: expected the requests of a performance run, found no file") from None
    except (ArrowException, OSError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"{path}: expected Parquet with the columns {', '.join(COLUMNS)}, could not read it: {reason}"
        ) from None


def _kind(name: str) -> type[np.int32] | type[np.float64]:
    return np.int32 if name in INTEGERS else np.float64
