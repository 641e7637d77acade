"""MLCommons' own calibration file, straight from its R2 store.

Not through `mlcr`: the tags of its calibration variation are misspelt in the script's metadata.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...config import Config
from ...credentials import user_info
from ...errors import MissingError, UsageError
from ..chain import Served
from ..dataset import store
from ..fetch import r2
from . import official


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """The official file, from the cache if it was fetched before; its bytes are judged in every run."""
    folder = store.folder(config, "mlcommons", "calibration")
    uri = official.uri(config)
    login = user_info("R2_BASE_URL", config.r2_base_url, env)
    r2.download(uri, folder, env, config.source_stall_s, config.source_timeout_s, login)
    path = folder / official.NAME
    if not path.is_file():
        raise MissingError(f"expected {official.NAME} in {folder}, found none")
    try:
        examined = official.examine(path, config, env)
    except UsageError as error:
        # A fault in a fetched file is the source's, not the user's.
        path.unlink(missing_ok=True)
        raise MissingError(str(error)) from None
    if examined.rows != official.COUNT:
        raise MissingError(f"{path}: expected {official.COUNT} rows, found {examined.rows}")
    return official.served("mlcommons", path, examined, uri)
