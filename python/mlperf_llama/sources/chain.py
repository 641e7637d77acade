"""Records a rung's attempt in provenance.json, whether it served or not.

A rung is one Python process and one function: it gets the config and returns
`Served`, or raises a PipelineError whose message is the reason it could not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import PipelineError
from ..records.run_folder import RunFolder


@dataclass(frozen=True)
class Served:
    """What a rung found. `path`: a dataset file or a model folder.

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
    details: dict[str, Any] = field(default_factory=dict)


def attempt(run: RunFolder, kind: str, rung: str, serve: Callable[[], Served]) -> Served:
    """Run one rung of the `kind` chain ("dataset" or "model") and record how it ended."""
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
        provenance = run.read_or_empty("provenance.json")
        record = dict(provenance.get(kind, {}))
        tried = [*record.get("attempts", [])]
        seconds = round(time.monotonic() - started, 3)
        tried.append({"rung": rung, "outcome": outcome, "reason": reason, "seconds": seconds})
        if served is not None:
            record.update(asdict(served))
        record["attempts"] = tried
        run.merge("provenance.json", **{kind: record})
