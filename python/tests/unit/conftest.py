"""A good run and its tree, made once; each test gets a copy of its own to break."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import run_folders as folders
from submission_trees import packed

from mlperf_llama.loadgen import accuracy_log
from mlperf_llama.records.files import digest
from mlperf_llama.records.run_folder import RunFolder

SLOW_FILE = re.compile(r"^pytestmark = .*\bmark\.slow\b", re.MULTILINE)
# SHA-256 of an accuracy log -> what is in it; more than a good run has are not kept.
PARSED: dict[str, list[accuracy_log.Response]] = {}
PARSED_LOGS = 8


def quick(config: pytest.Config) -> bool:
    return "not slow" in config.option.markexpr


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A file that is slow as a whole is not even imported by quick tests: PyTorch alone takes seconds."""
    if not quick(config) or not collection_path.name.startswith("test_"):
        return None
    return bool(SLOW_FILE.search(collection_path.read_text())) or None


@pytest.fixture(autouse=True)
def no_torch_in_quick_tests(request: pytest.FixtureRequest) -> Iterator[None]:
    before = "torch" in sys.modules
    yield
    if quick(request.config) and not before:
        assert "torch" not in sys.modules, "this test imports PyTorch: mark it slow"


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.good_run(tmp_path_factory.mktemp("good") / "run").path


@pytest.fixture
def read_logs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An accuracy log of the same bytes is parsed once for all tests: its 13,368 records take a while."""
    read = accuracy_log.read

    def read_once(path: Path) -> list[accuracy_log.Response]:
        key = digest(path) if path.is_file() else ""
        if key not in PARSED:
            responses = read(path)
            if len(PARSED) == PARSED_LOGS:
                return responses
            PARSED[key] = responses
        return list(PARSED[key])

    monkeypatch.setattr(accuracy_log, "read", read_once)


@pytest.fixture
def run(good: Path, tmp_path: Path, read_logs_once: None) -> RunFolder:
    shutil.copytree(good, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="session")
def good_tree(good: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed(tmp_path_factory.mktemp("packed"), RunFolder(good))
