"""Where the calibration articles come from: a fallback chain of sources, each of which serves one file.

The rules allow fixed scales from 1,000 published articles of CNN/DailyMail's training part alone
(inference_policies, calibration). A source is the module of its name with `serve(config, env)`.
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

CHAIN = ("mlcommons", "huggingface")
PATH = "path"


def chain(config: Config) -> tuple[str, ...]:
    """The sources to try, in order: all, the one that is named, or the user's own path."""
    if config.calibration.lower() == AUTO:
        return CHAIN
    if config.calibration.lower() in CHAIN:
        return (config.calibration.lower(),)
    return (PATH,)


def serve(source: str, config: Config, env: Mapping[str, str]) -> Served:
    """Try one source. MissingError: it cannot serve here; UsageError: the user's file is wrong."""
    if source not in (*CHAIN, PATH):
        raise UsageError(f"calibration source: expected {', '.join((*CHAIN, PATH))}, found {source!r}")
    served: Served = import_module(f".{source}", __name__).serve(config, env)
    return served


def prove_again(provided: Provided, config: Config, env: Mapping[str, str]) -> tuple[str, str]:
    """SHA-256 of a served file's bytes as they are now, and why they are not official; empty if they are."""
    from . import huggingface, official

    path, details = Path(str(provided.path)), provided.details or {}
    if provided.source == "huggingface":
        files = details.get("files")
        proof = huggingface.prove(path, [Path(str(p)) for p in files] if isinstance(files, list) else [], env)
        return proof.sha256, proof.reason
    examined = official.examine(path, config, env)
    return examined.sha256, examined.reason
