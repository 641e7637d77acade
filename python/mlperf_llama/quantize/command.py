"""`make quantize`: the model of the settings, and calibration data if a file of it is given."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import rules
from ..config import Config
from ..errors import BrokeError, MissingError, PipelineError
from ..sources import model
from ..sources.dataset import prepare
from ..sources.dataset.rows import read_rows
from . import quantize, weights

log = logging.getLogger(__name__)


def run(config: Config, env: Mapping[str, str], calibration: Path | None, target: Path | None) -> Path:
    """The new checkpoint's folder. `calibration`: a file in the dataset's formats, all of it used."""
    source = _model(config, env)
    kind = "dynamic" if calibration is None else "static"
    dest = target or config.cache_path / "models" / f"{source.name}-fp8-{kind}"
    prompts, about = None, dict[str, Any]()
    if calibration is not None:
        count = len(read_rows(calibration))
        samples = prepare.prepare(
            calibration,
            source,
            config.cache_path,
            count,
            model.is_reference_tokenizer(source),
            rules.MAX_MODEL_LEN,
        )
        prompts = [samples.prompt(index) for index in range(count)]
        about = {"file": str(calibration), "sha256": weights.sha256(calibration)}
    return quantize(source, dest, prompts, about, lambda text: log.warning("quantize %s", text))


def _model(config: Config, env: Mapping[str, str]) -> Path:
    """The first rung of the model chain that serves."""
    last: PipelineError | None = None
    for rung in model.chain(config):
        try:
            return Path(model.serve(rung, config, env).path)
        except (MissingError, BrokeError) as error:
            log.warning("model_rung rung=%s reason=%s", rung, error)
            last = error
    assert last
    raise last
