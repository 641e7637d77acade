"""Proves the dataset and the weights again from their bytes, before a closed submission is packed.

What provenance.json says of them is a file like others. They are official here only by a pinned hash, or
as their publisher announces them now; what is not there any more cannot be called official.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..errors import PipelineError
from ..records.schema import Check, Provided
from ..sources import dataset, model
from ..verdict.check import check
from .selection import SelectedRun

Prove = Callable[[SelectedRun, Mapping[str, str]], list[Check]]


def checks(run: SelectedRun, env: Mapping[str, str]) -> list[Check]:
    """Both must be the official ones, and those that the run used."""
    name, config = run.folder.path.name, run.config
    return [
        _check(f"{name}.dataset_bytes", run.dataset, lambda: dataset.prove_again(run.dataset, config, env)),
        _check(f"{name}.model_bytes", run.model, lambda: model.prove_again(run.model, config, env)),
    ]


def _check(name: str, provided: Provided, prove: Callable[[], tuple[str, str]]) -> Check:
    fix = f"pack where {provided.path} is as the run used it"
    try:
        sha256, reason = prove()
    except (PipelineError, OSError, ValueError) as error:
        return Check(name, False, f"could not be hashed again: {error}", fix)
    if sha256 != provided.sha256:
        reason = f"sha256 {sha256} of the bytes as they are now, {provided.sha256} in the run"
    return check(name, not reason, reason or f"hashed again, sha256 {sha256}", fix)
