"""An FP8 checkpoint of a Llama model, made by the benchmark's rules; vLLM loads it as `fp8`.

Weights get one scale per matrix. Inputs get fixed scales from the published calibration data
where it is at hand (policy: 1,000 samples of CNN/DailyMail's training part), else vLLM computes
them as it runs, from no data at all. What was done stands in `quantization.json` beside the
weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from .. import rules
from ..config import Config
from ..errors import BrokeError, MissingError, PipelineError
from ..records.files import digest
from ..sources import model
from ..sources.dataset import prepare
from ..sources.dataset.rows import read_rows
from . import checkpoint
from .record import Calibration

log = logging.getLogger(__name__)


def quantize_model(config: Config, env: Mapping[str, str], data: Path | None, target: Path | None) -> Path:
    """Quantise the model of the settings; gives the new checkpoint's folder.

    `data`: a file in the dataset's formats to calibrate with, all of it used; None: no calibration.
    """
    source = _model(config, env)
    scheme = "dynamic" if data is None else "static"
    dest = target or config.cache_path / "models" / f"{source.name}-fp8-{scheme}"
    prompts, calibration = None, None
    if data is not None:
        count = len(read_rows(data))
        reference = model.is_reference_tokenizer(source)
        samples = prepare.prepare(data, source, config.cache_path, count, reference, rules.MAX_MODEL_LEN)
        prompts = [samples.prompt(index) for index in range(count)]
        calibration = Calibration(count, str(data), digest(data))
    return checkpoint.write(source, dest, prompts, calibration, lambda text: log.warning("quantize %s", text))


def _model(config: Config, env: Mapping[str, str]) -> Path:
    """The weights of the first source in the model chain that serves them."""
    last: PipelineError | None = None
    for source in model.chain(config):
        try:
            return Path(model.serve(source, config, env).path)
        except (MissingError, BrokeError) as error:
            log.warning("model_source source=%s reason=%s", source, error)
            last = error
    assert last
    raise last
