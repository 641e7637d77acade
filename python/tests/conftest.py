"""What every test may rely on: the environment as it was before the module began."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def same_environment() -> Iterator[None]:
    """vLLM in process sets names that libraries of later modules would read (HF_HUB_OFFLINE)."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
