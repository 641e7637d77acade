"""A file or folder that the user named. Eligible only if it is proven to be the official file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...config import Config
from ...errors import UsageError
from ...settings import AUTO
from ..chain import Served
from . import CHAIN, official


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """UsageError: no such file, or a fault in it."""
    path = _locate(Path(config.calibration).expanduser().absolute())
    return official.served("path", path, official.examine(path, config, env), None)


def _locate(path: Path) -> Path:
    if path.is_dir():
        files = sorted((*path.glob(official.NAME), *path.glob(f"*/{official.NAME}")))
        if not files:
            raise UsageError(f"CALIBRATION: expected {official.NAME} in the folder {path}, found none")
        return files[0]
    if not path.exists():
        raise UsageError(
            f"CALIBRATION: expected {', '.join((AUTO, *CHAIN))}, a file or a folder, "
            f"found no such path: {path}"
        )
    return path
