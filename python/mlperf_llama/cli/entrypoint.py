"""From `mlperf-llama run` to entrypoint.sh, which tries the sources and then starts the benchmark."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import MissingError
from ..settings import PREFIX

PACKAGE = Path(__file__).resolve().parents[1]


def find(package: Path) -> Path:
    """entrypoint.sh of the checkout or image that `package` lies in, as python/mlperf_llama."""
    script = package.parents[1] / "entrypoint.sh"
    if package.parent.name == "python" and script.is_file():
        return script
    raise MissingError(
        f"expected entrypoint.sh two folders above {package}, found none: a package installed alone "
        "cannot do this; use a checkout (./entrypoint.sh, or `pip install -e .` there) or docker run IMAGE"
    )


def become(words: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Replace this process by entrypoint.sh, which goes on with this Python unless VENV names another."""
    script = find(PACKAGE)
    if not env.get(PREFIX + "VENV") and (Path(sys.prefix) / "bin" / "python").exists():
        os.environ[PREFIX + "VENV"] = sys.prefix
    os.execv(script, [str(script), *words])
