"""Where the articles come from: a fallback chain of sources, each of which serves one file.

A source is the module of its name with `serve(config, env)`; it gives a checked file
(rows.py says in which formats) or raises why it cannot. prepare.py makes prompts of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from ...config import Config
from ...errors import UsageError
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
