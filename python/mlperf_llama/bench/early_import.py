"""Begins vLLM's import, seconds of one core, before the run looks up its scales and tokenises its prompts."""

from __future__ import annotations

import os
from pathlib import Path

from ..config import Config
from ..engine import importing
from ..engine.preset import choose_preset
from ..engine.settings import environment_of
from ..errors import PipelineError
from ..records.run_folder import RunFolder
from ..records.schema import Provenance
from ..sources.dataset import prepare
from . import members
from .scope import first_gpu


def begin(run: RunFolder, config: Config) -> None:
    """Nothing where vLLM is not the engine, and where members load engines of their own. What is wrong with
    model or settings is told where they are used."""
    provided = run.read(Provenance).model
    if config.engine != "vllm" or provided is None or provided.path is None:
        return
    try:
        if members.several(run, config):
            return
        gpu = first_gpu(run)
        variables = environment_of(choose_preset(config, gpu), gpu is not None, len(os.sched_getaffinity(0)))
        # Before torch, which takes a folder of its own for what it compiles where none is set.
        importing.prepare_import(config.cache_path, variables)
        # All of transformers that tokenising needs, before another thread imports (engine/importing.py).
        prepare.load_tokenizer(Path(provided.path))
    except (PipelineError, ImportError):
        return
    from ..engine import vllm

    vllm.begin_import()
