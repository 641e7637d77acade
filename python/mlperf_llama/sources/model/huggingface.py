"""Source `huggingface`: meta-llama/Llama-3.1-8B-Instruct, gated, at a pinned revision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from ... import rules
from ...config import Config, secret
from ...credentials import misnamed
from ...errors import MissingError
from ..chain import Served
from ..fetch import hub
from ..fetch.http import Patience
from ..fetch.publisher import Announce
from .path import describe, download, from_cache

# rules.MODEL_REVISION is what the reference's README names. It is a commit of the 405B
# repository; this one is the 8B repository's, whose shards checkpoint.SHARDS lists.
PUBLISHED_REVISION = "0e9e39f249a16976918f6564b8830bc894c89659"
REVISIONS = (rules.MODEL_REVISION, PUBLISHED_REVISION)


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """A copy that is already in the hub's cache needs no token and no network."""
    for revision in REVISIONS:
        folder = hub.find(rules.MODEL_ID, revision, env)
        served = from_cache(folder, config, partial(_described, revision=revision, config=config, env=env))
        if served is not None:
            return served
    token = secret("HF_TOKEN", env)
    if not token:
        raise MissingError(
            f"huggingface: {rules.MODEL_ID} is gated and HF_TOKEN is not set{misnamed('HF_TOKEN', env)}; "
            f"{hub.access_advice(rules.MODEL_ID)}, then set HF_TOKEN ({hub.TOKENS_PAGE})"
        )
    half = Patience(config.source_stall_s / 2, config.source_timeout_s)
    revision = hub.first_revision(rules.MODEL_ID, REVISIONS, token, env, half)
    folder = download(rules.MODEL_ID, revision, token, config, env)
    return _described(folder, revision, config, env)


def announcement(revision: str, env: Mapping[str, str]) -> Announce:
    """Asks the Hub for the hashes of the weights at a pinned revision."""
    return lambda: hub.announce("models", rules.MODEL_ID, revision, env)


def _described(folder: Path, revision: str, config: Config, env: Mapping[str, str]) -> Served:
    served = describe(folder, "huggingface", config, revision, announcement(revision, env))
    return replace(served, details={**served.details, "model": rules.MODEL_ID})
