"""Records a source's attempt in provenance.json, whether it served or not.

A source is one Python process and one function: it gets the config and returns
`Served`, or raises a PipelineError whose message is the reason it could not.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..errors import PipelineError
from ..records.run_folder import RunFolder
from ..records.schema import Attempt, Provenance, Provided


@dataclass(frozen=True)
class Served:
    """What a source serves. `path`: a dataset file or a model folder.

    `eligible` False always carries a `reason`, shown in the verdict.
    `rows` for datasets, `revision` for models; `details` is free-form and kept.
    """

    source: str
    path: str
    sha256: str
    eligible: bool
    reason: str = ""
    rows: int | None = None
    revision: str | None = None
    details: Mapping[str, object] = field(default_factory=dict)


def attempt(run: RunFolder, kind: str, source: str, serve: Callable[[], Served]) -> Served:
    """Try one source of the `kind` chain ("dataset", "model", "calibration") and record how it ended."""
    started = time.monotonic()
    outcome, reason, served = "failed", "", None
    try:
        served = serve()
        outcome = "served"
        return served
    except PipelineError as error:
        reason = str(error)
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"
        raise
    finally:
        seconds = round(time.monotonic() - started, 3)
        _record(run, kind, served, Attempt(source, outcome, reason, seconds))


def _record(run: RunFolder, kind: str, served: Served | None, last: Attempt) -> None:
    """Add the attempt; what an earlier attempt served stays where this one failed."""
    provenance = run.read_or_new(Provenance)
    provided = {
        "dataset": provenance.dataset,
        "model": provenance.model,
        "calibration": provenance.calibration,
    }[kind] or Provided()
    new = vars(served) if served else {}
    provided = dataclasses.replace(provided, **new, attempts=(*provided.attempts, last))
    run.update(Provenance, **{kind: provided})
