"""Servers as the engine: token ids go to one or several over HTTP, and token ids come back.

A probe (probe.py) finds out what each server speaks (dialects.py) and what can be proved of it.
"""

from __future__ import annotations

from .client import Patience
from .engine import EndpointEngine

__all__ = ["EndpointEngine", "Patience"]
