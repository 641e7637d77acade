"""The data and the model of a run, as its records name them: there, whole, and those of before."""

from __future__ import annotations

from pathlib import Path

from .. import rules
from ..engine.settings import ModelFacts
from ..errors import UsageError
from ..records.files import JsonObject
from ..records.run_folder import RunFolder
from ..records.schema import Provenance, Provided
from ..sources import model
from ..sources.dataset import prepare
from .scope import Scope


def check_resume_inputs(provenance: Provenance) -> None:
    """A resumed run must use the data and the model that its finished part used."""
    now = {"dataset": provenance.dataset, "model": provenance.model}
    for kind, before in (provenance.stood_on or {}).items():
        record = now.get(kind) or Provided()
        if before not in (None, record.sha256):
            raise UsageError(
                f"{kind}: expected sha256 {before}, which the finished runs used, found {record.sha256} "
                f"from {record.source}; resume where the same {kind} can be had"
            )


def provided(run: RunFolder, kind: str, record: Provided | None) -> Provided:
    """`record`, where a source has served it."""
    if record is None or record.path is None or record.sha256 is None:
        raise UsageError(f"{run.path}: expected a {kind} in {Provenance.FILE}, found none; start a new run")
    return record


def whole_number(model_config: JsonObject, key: str, default: int) -> int:
    """A whole number of the model's config.json."""
    value = model_config.get(key, default)
    if not isinstance(value, int):
        raise UsageError(f"the model's config.json: expected a whole number for {key}, found {value!r}")
    return value


def samples(
    dataset: Provided, weights: Provided, model_config: JsonObject, cache: Path, scope: Scope
) -> prepare.Samples:
    """The prompts of a run as token ids. A run that may count makes them anew."""
    model_dir = Path(str(weights.path))
    positions = whole_number(model_config, "max_position_embeddings", rules.MAX_MODEL_LEN)
    return prepare.prepare(
        Path(str(dataset.path)),
        model_dir,
        cache,
        scope.sample_count,
        model.is_reference_tokenizer(model_dir),
        positions - rules.MAX_NEW_TOKENS,
        use_cache=not (dataset.eligible and weights.eligible) or scope.shortened,
        expected_sha256=dataset.sha256,
    )


def model_facts(folder: Path, model_config: JsonObject, max_model_len: int) -> ModelFacts:
    """What an engine's settings depend on, of a model and its config.json."""
    return ModelFacts(
        str(folder),
        max_model_len,
        quantized="quantization_config" in model_config,
        random_weights=model.is_random(model_config),
    )
