"""Source `stand-in-8b`: the stand-in's function in Llama-3.1-8B's exact shape, dense. Never eligible.

What the real model asks of a machine (memory, arithmetic, power) with real language through every kernel,
where the gated weights are not at hand. Made once from the stand-in (wide_llama.py), 16 GB, the same bytes
on any machine.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from ...config import Config
from ...errors import BrokeError, MissingError
from ..chain import Served
from ..fetch import cached, child
from . import checkpoint, standin

log = logging.getLogger(__name__)

STAND_IN_8B = "stand-in-8b"
REASON = f"stand-in model ({standin.NAME} embedded in Llama-3.1-8B's shape), not Llama-3.1-8B-Instruct"
# Raised when other weights come out, so that a cached checkpoint of before is not taken for them.
REVISION = 1
# Two bytes for each of 8.03e9 weights.
CHECKPOINT_BYTES, SPARE_BYTES = 16.1e9, 1e9


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """The checkpoint, from the cache if it was made before."""
    folder = config.cache_path / "models" / f"{STAND_IN_8B}-{REVISION}"
    try:
        cached.provide(folder, lambda made: _make(made, config, env), checkpoint.problem)
    except OSError as error:
        raise MissingError(f"{folder}: {STAND_IN_8B} could not be written: {error.strerror}") from None
    hashes = checkpoint.digests(folder, config.cache_path)
    details = {"shards": hashes, "model": STAND_IN_8B, "same_shape": True}
    return Served(STAND_IN_8B, str(folder), checkpoint.combined(hashes), False, REASON, details=details)


def _make(made: Path, config: Config, env: Mapping[str, str]) -> None:
    """Make the checkpoint, where there is room for it."""
    small = Path(standin.serve(config, env).path)
    free = shutil.disk_usage(made).free
    if free < CHECKPOINT_BYTES + SPARE_BYTES:
        raise MissingError(
            f"{STAND_IN_8B} needs {(CHECKPOINT_BYTES + SPARE_BYTES) / 1e9:.0f} GB in {small.parent}, "
            f"found {free / 1e9:.1f} GB free; free some, or set CACHE_DIR to a folder on a larger disk"
        )
    log.warning("making model=%s folder=%s size=16 GB", STAND_IN_8B, small.parent)
    # Memory of CPU and GPU is free again when the child ends.
    child.run(
        f"{STAND_IN_8B}: writing 16 GB of weights",
        [sys.executable, "-P", "-s", "-m", f"{__package__}.wide_llama", small, made],
        env=child.with_package(env),
        stall_s=config.source_timeout_s,
        timeout_s=config.source_timeout_s,
        progress=child.growth(made),
    )
    if problem := checkpoint.problem(made):
        raise BrokeError(problem)
