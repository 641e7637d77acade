"""A file or folder that the user named. Eligible only if it is proven to be the official file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

from ...config import Config
from ...errors import UsageError
from ...settings import AUTO
from ..chain import Served
from . import CHAIN, mlcommons, official


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """UsageError: no such file, a fault in it, or fewer rows than SAMPLES asks for."""
    path = _locate(config)
    examined = official.examine(path, config.category, mlcommons.announcement(config, env))
    if config.samples is not None and config.samples > examined.rows:
        raise UsageError(
            f"SAMPLES: expected at most {examined.rows}, the rows of {path}, found {config.samples}"
        )
    return Served(
        source="path",
        path=str(path),
        sha256=examined.sha256,
        eligible=examined.eligible,
        reason=f"{path.name}: {examined.reason}" if examined.reason else "",
        rows=examined.rows,
        details=examined.details,
    )


def _locate(config: Config) -> Path:
    path = Path(config.dataset_source).expanduser().absolute()
    if path.is_dir():
        file = official.find(path, config.category)
        if file is None:
            expected = " or ".join(official.names(config.category))
            raise UsageError(f"DATASET_SOURCE: expected {expected} in the folder {path}, found none")
        return file
    if not path.exists():
        near = difflib.get_close_matches(config.dataset_source.lower(), (*CHAIN, AUTO), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"DATASET_SOURCE: expected {', '.join((AUTO, *CHAIN))}, a file or a folder, "
            f"found no such path: {path}{hint}"
        )
    return path
