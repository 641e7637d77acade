"""Submissions: pack run folders as MLPerf wants them, and check any such tree.

`pack` refuses what the verdict refuses; `check` also reads trees made by others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config import Config
from .checker import Report, check
from .packing import pack
from .test06 import verify_test06


def pack_and_check(
    config: Config, env: Mapping[str, str], results_dir: Path, runs: Sequence[Path] | None = None
) -> tuple[Path, Report]:
    """Pack run folders (default: the latest), then check the tree with both checkers."""
    tree = pack(config, env, results_dir, runs)
    return tree, check(tree, config, env)


__all__ = ["Report", "check", "pack", "pack_and_check", "verify_test06"]
