"""A good run and its tree, made once; each test gets a copy of its own to break."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import run_folders as folders
from submission_trees import packed

from mlperf_llama.records.run_folder import RunFolder

SLOW_FILE = re.compile(r"^pytestmark = .*\bmark\.slow\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With -m 'not slow' a file that is slow as a whole is not even imported: PyTorch alone takes seconds."""
    if "not slow" not in config.option.markexpr or not collection_path.name.startswith("test_"):
        return None
    return bool(SLOW_FILE.search(collection_path.read_text())) or None


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.good_run(tmp_path_factory.mktemp("good") / "run").path


@pytest.fixture
def run(good: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(good, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="session")
def good_tree(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("packed"), RunFolder(good))
