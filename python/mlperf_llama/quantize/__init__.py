"""An FP8 checkpoint of a Llama model, made by the benchmark's rules; vLLM loads it as `fp8`.

Weights get one scale per matrix. Inputs get fixed scales from the published calibration data
where it is at hand (policy: 1,000 samples of CNN/DailyMail's training part), else vLLM computes
them as it runs, from no data at all. What was done stands in `quantization.json` beside the
weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import rules
from ..config import Config
from ..records.files import read_object
from ..settings import AUTO
from ..sources import calibration, model
from ..sources.dataset import prepare
from ..sources.dataset.rows import read_rows
from .record import Calibration

log = logging.getLogger(__name__)


def quantize_model(config: Config, env: Mapping[str, str], target: Path | None) -> Path:
    """Quantise the model of the settings; gives the new checkpoint's folder.

    CALIBRATION auto: no calibration; else all articles of the source or the file that it names.
    """
    from . import checkpoint

    source = Path(model.first_served(config, env).path)
    static = config.calibration.lower() != AUTO
    scheme = "static" if static else "dynamic"
    dest = target or config.cache_path / "models" / f"{source.name}-fp8-{scheme}"
    prompts, used = None, None
    if static:
        (named,) = calibration.chain(config)
        articles = calibration.serve(named, config, env)
        prompts = calibration_prompts(Path(articles.path), source, config.cache_path)
        used = Calibration(len(prompts), articles.path, articles.sha256)
    return checkpoint.write(source, dest, prompts, used, lambda text: log.warning("quantize %s", text))


def calibration_prompts(articles: Path, model_dir: Path, cache_dir: Path) -> list[Sequence[int]]:
    """The token ids of every article of the file, each as a prompt of the model. The benchmark's longest
    prompt is no limit here: the articles are others. Made of the articles' bytes, whatever an earlier run
    has kept."""
    count = len(read_rows(articles))
    reference = model.is_reference_tokenizer(model_dir)
    positions = read_object(model_dir / "config.json").get("max_position_embeddings")
    longest = positions if isinstance(positions, int) else rules.MAX_MODEL_LEN
    samples = prepare.prepare(articles, model_dir, cache_dir, count, reference, longest, use_cache=False)
    return [samples.prompt(index) for index in range(count)]
