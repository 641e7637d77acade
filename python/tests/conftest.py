"""What every test may rely on: the environment as it was before the module began. And what is
asked of every run folder that a test made: that its records are as docs/schema/ says."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from run_folder_schemas import problems, run_folders


@pytest.fixture(autouse=True, scope="session")
def children_can_be_interrupted() -> None:
    """What is started in the background inherits INT as ignored, and a shell that does could not trap it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="module")
def same_environment() -> Iterator[None]:
    """vLLM in process sets names that libraries of later modules would read (HF_HUB_OFFLINE)."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True, scope="session")
def records_as_their_schemas_say(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    yield
    different = [line for folder in run_folders(tmp_path_factory.getbasetemp()) for line in problems(folder)]
    assert not different, "\n".join(different)
