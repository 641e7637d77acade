"""Makes the scales of a run again, from the bytes that are there now, and compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ..errors import InvalidError, MissingError
from ..records import scales
from ..records.run_folder import RunFolder
from ..records.scales import Scales
from ..records.schema import Provenance, Provided
from ..sources import calibration, model

Progress = Callable[[int, int], None]


def verify(run: RunFolder, env: Mapping[str, str], progress: Progress) -> str:
    """What was compared, in a line. MissingError: the run has no static scales, or not all that they need is
    here; InvalidError: others come out."""
    path = run.file(Scales.FILE)
    if not path.is_file():
        raise MissingError(f"{path}: expected static scales, found none; the run's are dynamic")
    record = scales.read(path)
    again = _make(run, record, env, progress)
    lines = scales.differences(record, again)
    if lines:
        more = f" and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise InvalidError(f"{path}: expected what is made now, found: {'; '.join(lines[:5])}{more}")
    other = sum(record.scales[name] != again.scales[name] for name in record.scales)
    return (
        f"{len(record.scales)} scales made again on {again.device} (the run's: {record.device}): "
        f"{other} of them next to the run's, the others equal"
    )


def _make(run: RunFolder, record: Scales, env: Mapping[str, str], progress: Progress) -> Scales:
    # Imports torch.
    from ..quantize import calibration_prompts
    from ..quantize import scales as making

    provenance, config = run.read(Provenance), run.config()
    articles, weights = provenance.calibration or Provided(), provenance.model or Provided()
    model_dir = Path(str(weights.path))
    articles_sha256, _ = calibration.prove_again(articles, config, env)
    model_sha256, _ = model.prove_again(weights, config, env)
    prompts = calibration_prompts(Path(str(articles.path)), model_dir, config.cache_path)
    identity = making.identity(model_sha256, model_dir, replace(articles, sha256=articles_sha256), prompts)
    if other := identity.mismatches(record):
        raise InvalidError(f"{run.file(Scales.FILE)}: made of others than are here: {'; '.join(other)}")
    return making.make(model_dir, identity, prompts, env, progress)
