"""`make serve`: the engine of these settings as an OpenAI server, for clients of others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from .. import rules
from ..config import Config, secret
from ..engine import tuned
from ..engine.preset import choose_preset
from ..engine.replicas import plan as replicas
from ..engine.settings import ModelFacts, engine_settings
from ..errors import MissingError, UsageError
from ..machine import gpus, needs
from ..machine.gpus import VISIBLE
from ..records.files import read_object
from ..sources import model

log = logging.getLogger(__name__)


def serve(config: Config, env: Mapping[str, str]) -> None:
    """Until it is interrupted. UsageError, MissingError: what keeps it from starting."""
    if config.engine != "vllm" or config.hosts:
        raise UsageError(
            f"serve: expected ENGINE=vllm on this host, found ENGINE={config.engine}, HOSTS={config.hosts}"
        )
    needs.check(config)
    here = gpus.describe(env)
    if here.failure and not here.gpus:
        raise MissingError(f"expected a GPU that answers, found {here.failure}: {gpus.REPAIR}")
    members = replicas.members(config, replicas.chosen_gpus(config, here.gpus))
    if len(members) > 1:
        log.warning(
            "serve gpus=%s copies=1: further GPUs serve with GPUS and SERVE_ADDRESS of their own",
            members[0].gpu,
        )
    first = next(iter(here.gpus), None)
    served = model.first_served(config, env)
    folder = Path(served.path)
    model_config = read_object(folder / "config.json")
    preset = choose_preset(config, first)
    settings = engine_settings(
        config,
        preset,
        tuned.read(
            tuned.path_of(Path(config.results_dir), config, first.name if first else None),
            tuned.identity(config, served.sha256, preset.engine, replicas=1),
        ),
        ModelFacts(
            str(folder),
            rules.MAX_MODEL_LEN,
            quantized="quantization_config" in model_config,
            random_weights=model.is_random(model_config),
        ),
        on_gpu=first is not None,
        cpu_threads=replicas.cpu_threads(1),
    )
    from ..engine import openai_server

    host, port = config.serve_address.rsplit(":", 1)
    chosen = {VISIBLE: members[0].gpu} if members[0].gpu is not None and config.gpus is not None else {}
    openai_server.serve(
        settings.arguments,
        config.cache_path,
        {**settings.environment, **chosen},
        (host, int(port)),
        rules.MODEL_ID if served.eligible else folder.name,
        secret("ENDPOINT_API_KEY", env),
        lambda message: log.warning("serve %s", message),
    )
