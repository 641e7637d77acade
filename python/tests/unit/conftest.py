"""A good run and its tree, made once; each test gets a copy of its own to break."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import run_folders as folders
from submission_trees import packed

from mlperf_llama.records.run_folder import RunFolder


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
