"""Where the articles come from: a fallback chain of sources, each of which serves one file.

A source is the module of its name with `serve(config, env)`; it gives a checked file
(rows.py says in which formats) or raises why it cannot. prepare.py makes prompts of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import Config
from ...errors import UsageError
from ...records.schema import Provided
from ...settings import AUTO

if TYPE_CHECKING:
    from ..chain import Served

CHAIN = ("mlcommons", "huggingface", "synthetic")
PATH = "path"


def chain(config: Config) -> tuple[str, ...]:
    """The sources to try, in order: all, the one that is named, or the user's own path."""
    if config.dataset_source.lower() == AUTO:
        return CHAIN
    if config.dataset_source.lower() in CHAIN:
        return (config.dataset_source.lower(),)
    return (PATH,)


def serve(source: str, config: Config, env: Mapping[str, str]) -> Served:
    """Try one source. MissingError: it cannot serve here; UsageError: the user's file is wrong."""
    if source not in (*CHAIN, PATH):
        raise UsageError(f"dataset source: expected {', '.join((*CHAIN, PATH))}, found {source!r}")
    served: Served = import_module(f".{source}", __name__).serve(config, env)
    return served


def prove_again(provided: Provided, config: Config, env: Mapping[str, str]) -> tuple[str, str]:
    """SHA-256 of a served file's bytes as they are now, and why they are not official; empty if they are."""
    from . import huggingface, mlcommons, official

    path, details = Path(str(provided.path)), provided.details or {}
    if provided.source == "huggingface":
        proof = huggingface.prove(path, Path(str(details.get("file"))), config, env)
        return proof.sha256, proof.reason
    examined = official.examine(path, config.category, mlcommons.announcement(config, env))
    return examined.sha256, examined.reason
