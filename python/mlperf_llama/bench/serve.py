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
from ..engine.settings import engine_settings
from ..errors import MissingError, UsageError
from ..machine import gpus, needs
from ..records.files import read_object
from ..sources import model
from . import inputs

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
    preset = choose_preset(config, first)
    settings = engine_settings(
        config,
        preset,
        tuned.read(
            tuned.path_of(Path(config.results_dir), config, first.name if first else None),
            tuned.identity(config, served.sha256, preset.engine, replicas=1),
        ),
        inputs.model_facts(folder, read_object(folder / "config.json"), rules.MAX_MODEL_LEN),
        on_gpu=first is not None,
        cpu_threads=replicas.cpu_threads(1),
    )
    from ..engine import openai_server

    host, port = config.serve_address.rsplit(":", 1)
    openai_server.serve(
        settings.arguments,
        config.cache_path,
        {**settings.environment, **replicas.environment_of(members[0], config)},
        (host, int(port)),
        rules.MODEL_ID if served.eligible else folder.name,
        secret("ENDPOINT_API_KEY", env),
        lambda message: log.warning("serve %s", message),
    )
