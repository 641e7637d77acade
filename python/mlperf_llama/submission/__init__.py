"""Submissions: pack run folders as MLPerf wants them, and check any such tree.

`pack` refuses what the verdict refuses; `check` also reads trees made by others.
"""

from __future__ import annotations

from .checker import check
from .packing import pack
from .test06 import verify_test06

__all__ = ["check", "pack", "verify_test06"]
