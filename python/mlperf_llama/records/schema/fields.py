"""What the records share: their version, words that several of them use, and a field that may be absent."""

from __future__ import annotations

from dataclasses import field
from typing import Any

SCHEMA_VERSION = 1
# results.json `status`: what became of the run.
RUNNING, COMPLETE, INTERRUPTED, FAILED = "running", "complete", "interrupted", "failed"
# provenance.json `scales.mode`.
STATIC, DYNAMIC = "static", "dynamic"


def absent(until: str = "") -> Any:
    """A field left out of the JSON while it is None and the field named `until` is None too."""
    return field(default=None, metadata={"absent": True, "until": until})
