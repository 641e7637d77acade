"""Proves dataset, weights and calibration articles again from their bytes, before a closed submission is
packed.

What provenance.json says of them is a file like others. They are official here only by a pinned hash, or
as their publisher announces them now; what is not there any more cannot be called official.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import PipelineError
from ..records import scales
from ..records.files import digest
from ..records.scales import Scales
from ..records.schema import Check, Provided, ScalesUsed
from ..sources import calibration, dataset, model
from ..verdict.check import check
from .selection import SelectedRun

Prove = Callable[[SelectedRun, Mapping[str, str]], list[Check]]


def checks(run: SelectedRun, env: Mapping[str, str]) -> list[Check]:
    """All must be the official ones, and those that the run used."""
    name, config = run.folder.path.name, run.config
    return [
        *_scales(name, run, env),
        _check(f"{name}.dataset_bytes", run.dataset, lambda: dataset.prove_again(run.dataset, config, env)),
        _check(f"{name}.model_bytes", run.model, lambda: model.prove_again(run.model, config, env)),
    ]


def _scales(name: str, run: SelectedRun, env: Mapping[str, str]) -> list[Check]:
    """Of static scales: the articles, and the prompts and the tokenizer that they name."""
    path = run.folder.file(Scales.FILE)
    if not path.is_file():
        return []
    articles = run.evidence.provenance.calibration or Provided()

    def prompts() -> tuple[str, str]:
        # Imports nothing heavy before a run with static scales is packed.
        from ..quantize import calibration_prompts
        from ..quantize.scales import tokenizer_sha256

        record, model_dir = scales.read(path), Path(str(run.model.path))
        read_again = calibration_prompts(Path(str(articles.path)), model_dir, run.config.cache_path)
        made = {
            "ids_sha256": scales.ids_sha256(read_again),
            "ids_count": len(read_again),
            "tokenizer_sha256": tokenizer_sha256(model_dir),
        }
        other = [
            f"{key} {value}, {getattr(record, key)} in {Scales.FILE}"
            for key, value in made.items()
            if value != getattr(record, key)
        ]
        return digest(path), "; ".join(other)

    used = run.evidence.provenance.scales or ScalesUsed("not recorded")
    return [
        _check(
            f"{name}.calibration_bytes",
            articles,
            lambda: calibration.prove_again(articles, run.config, env),
        ),
        _check(f"{name}.calibration_prompts", Provided(path=str(path), sha256=used.sha256), prompts),
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
