"""Source `mlcommons`: the members' copy of Llama-3.1-8B-Instruct, by `mlcr`, else from R2 directly."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ...config import Config
from ...credentials import user_info
from ...errors import MissingError
from ..chain import Served
from ..fetch import mlcr, r2
from ..fetch.publisher import Announce
from . import checkpoint
from .path import describe

log = logging.getLogger(__name__)

# https://github.com/mlcommons/inference language/llama3.1-8b/README.md, "Get Model".
TAGS = ("get", "ml-model", "llama3", "_mlc", "_8b", "_r2-downloader")
NAME = "llama3-1-8b-instruct"


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """Without a service token nothing is tried: the bucket gives a log-in page to everyone else."""
    if not r2.token_headers(env):
        raise MissingError(
            f"mlcommons: the model needs MLCommons access and no token is set; {r2.advice(env)}"
        )
    # Both tools share the source's patience, so that the next source starts in time.
    stall_s = config.source_stall_s / 2
    try:
        folder, tool = mlcr.run(TAGS, config, env, stall_s), "mlcr"
    except MissingError as error:
        log.info("mlcr_failed next=r2 reason=%s", error)
        first = str(error)
        try:
            dest = config.cache_path / "r2" / NAME
            login = user_info("R2_MODEL_URL", config.r2_model_url, env)
            folder = r2.download(metadata_uri(config), dest, env, stall_s, config.source_timeout_s, login)
        except MissingError as second:
            raise MissingError(f"mlcommons: {second}; before that, {first}") from None
        tool = "r2"
    served = describe(_checkpoint_folder(folder), "mlcommons", config, announce=announcement(config, env))
    return replace(served, details={**served.details, "model": NAME, "way": tool})


def announcement(config: Config, env: Mapping[str, str]) -> Announce:
    """Asks MLCommons' own store for its MD5 list; a mirror (R2_MODEL_URL) is refused."""
    return lambda: r2.announce(metadata_uri(config), env)


def metadata_uri(config: Config) -> str:
    """Where the store says which files the model has."""
    return f"{config.r2_model_url.rstrip('/')}/{NAME}.uri"


def _checkpoint_folder(folder: Path) -> Path:
    """The folder with config.json, at whatever depth the download put it."""
    configs = sorted(folder.rglob("config.json"), key=lambda path: len(path.parts))
    if not configs:
        raise MissingError(f"{folder}: expected a checkpoint with config.json in it, found none")
    problem = checkpoint.problem(configs[0].parent)
    if problem:
        raise MissingError(problem)
    return configs[0].parent
