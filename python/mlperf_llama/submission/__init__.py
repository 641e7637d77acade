"""Submissions: pack run folders as MLPerf wants them, and check any such tree.

`pack` refuses what the verdict refuses; `check` also reads trees made by others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config import Config
from ..errors import MissingError
from .checker import Report, check
from .packing import pack
from .selection import CLOSED, OPEN, SELFTEST

HOMES = ("submittable", "open", SELFTEST)


def pack_and_check(
    config: Config, env: Mapping[str, str], results_dir: Path, runs: Sequence[Path] | None = None
) -> tuple[Path, Report]:
    """Pack run folders (default: the latest), then check the tree with both checkers."""
    tree = pack(config, env, results_dir, runs)
    return tree, check(tree, config, env)


def last_packed(results_dir: Path) -> Path:
    """The newest tree under the results folder, of any division."""
    trees = [path for home in HOMES for path in (results_dir / home).glob("*/") if _is_tree(path)]
    if not trees:
        raise MissingError(
            f"{results_dir}: expected a packed submission, found none; make submission, or SUBMISSION=dir"
        )
    return max(trees, key=lambda path: path.stat().st_mtime)


def _is_tree(path: Path) -> bool:
    return not path.name.startswith(".") and any((path / part).is_dir() for part in (CLOSED, OPEN))


__all__ = ["Report", "check", "last_packed", "pack", "pack_and_check"]
