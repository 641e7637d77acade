"""The model chain: where the weights and the tokenizer come from, and what they are worth."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from ...config import Config
from ...errors import BrokeError, MissingError, PipelineError, UsageError
from ...records.schema import Provided
from ...settings import AUTO
from ..chain import Served
from .random_weights import RANDOM, RANDOM_FP8, is_random
from .standin_8b import STAND_IN_8B
from .tokens import is_reference_tokenizer, stop_ids

__all__ = ["CHAIN", "chain", "first_served", "is_random", "is_reference_tokenizer", "serve", "stop_ids"]

log = logging.getLogger(__name__)

CHAIN = ("mlcommons", "huggingface", "stand-in")
FAKE = "fake"
PATH = "path"
# Not in the chain: served only where MODEL names them.
NAMED = (FAKE, STAND_IN_8B, RANDOM, RANDOM_FP8)
_MODULES = {
    **{source: source for source in (*CHAIN, FAKE, PATH)},
    "stand-in": "standin",
    STAND_IN_8B: "standin_8b",
    RANDOM: "random_weights",
    RANDOM_FP8: "random_weights",
}


class _Source(Protocol):
    def serve(self, config: Config, env: Mapping[str, str]) -> Served: ...


def chain(config: Config) -> tuple[str, ...]:
    """The sources to try, in order: all, the one that MODEL names, or the path or Hub id in it."""
    if config.model == AUTO:
        if config.endpoints:
            # The prompts of another model than the server's are of no use to it.
            return ("huggingface",)
        return (FAKE,) if config.engine == "fake" else CHAIN
    if config.model == FAKE and config.engine != "fake":
        raise UsageError("MODEL: fake is only a tokenizer and needs ENGINE=fake")
    return (config.model,) if config.model in (*CHAIN, *NAMED) else (PATH,)


def serve(source: str, config: Config, env: Mapping[str, str]) -> Served:
    """Try one source: a folder with config.json, tokenizer and, but for `fake`, the weights."""
    if source not in _MODULES:
        raise UsageError(f"model source: expected one of {', '.join(_MODULES)}, found {source!r}")
    module = cast(_Source, importlib.import_module(f".{_MODULES[source]}", __name__))
    return module.serve(config, env)


def first_served(config: Config, env: Mapping[str, str]) -> Served:
    """What the first source of the chain serves that has it."""
    last: PipelineError | None = None
    for source in chain(config):
        try:
            return serve(source, config, env)
        except (MissingError, BrokeError) as error:
            log.warning("model_source source=%s reason=%s", source, error)
            last = error
    assert last
    raise last


def prove_again(provided: Provided, config: Config, env: Mapping[str, str]) -> tuple[str, str]:
    """SHA-256 of the weights as they are now, and why they are not official; empty if they are."""
    from . import checkpoint, huggingface, mlcommons, proof

    folder = Path(str(provided.path))
    problem = checkpoint.problem(folder)
    if problem:
        raise MissingError(problem)
    hashes = checkpoint.hash_files(folder, checkpoint.shard_names(folder))
    announce = proof.pinned_only
    if provided.source == "mlcommons":
        announce = mlcommons.announcement(config, env)
    elif provided.source == "huggingface" and provided.revision in huggingface.REVISIONS:
        announce = huggingface.announcement(provided.revision, env)
    return checkpoint.combined(hashes), proof.prove(folder, hashes, announce).reason
