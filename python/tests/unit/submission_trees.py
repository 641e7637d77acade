"""Trees packed from good runs, for the tests of packing and of checking."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import run_folders as folders

from mlperf_llama import config, submission
from mlperf_llama.config import Config
from mlperf_llama.errors import InvalidError
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Accuracy, Check
from mlperf_llama.submission import folders as tree_folders
from mlperf_llama.submission import tree
from mlperf_llama.submission.layout import Layout
from mlperf_llama.submission.selection import SelectedRun

# What no machine tells.
SYSTEM_TOML = """
host_memory_configuration = "16x 64 GB DDR5"
host_networking_topology = "none"
accelerator_memory_configuration = "HBM3"
cooling = "air"
"""


def settings(tmp_path: Path, **flags: str) -> Config:
    (tmp_path / "system.toml").write_text(SYSTEM_TOML)
    given = {"SUBMITTER": "acme", "SYSTEM_FILE": str(tmp_path / "system.toml"), **flags}
    return config.load({**given, "CACHE_DIR": str(tmp_path / "cache")}, {})


def same_scores(run: RunFolder, scenario: str) -> Accuracy:
    """Scoring again that gives what the run folder says."""
    return Accuracy(**folders.scores_of(run.config().category))


def same_bytes(run: SelectedRun, env: Mapping[str, str]) -> list[Check]:
    """Hashing again that finds what the run folder says."""
    return [Check(f"{run.folder.path.name}.{kind}_bytes", True, "same") for kind in ("dataset", "model")]


def packed(tmp_path: Path, *runs: RunFolder, **flags: str) -> Path:
    used = settings(tmp_path, **flags)
    return submission.pack(used, {}, tmp_path / "results", [r.path for r in runs], same_scores, same_bytes)


def packed_by_bytes(tmp_path: Path, run: RunFolder, **flags: str) -> Path:
    """Packed where the dataset and the weights are hashed again."""
    used = settings(tmp_path, **flags)
    return submission.pack(used, {}, tmp_path / "results", [run.path], same_scores)


def closed_alone_refuses(tmp_path: Path, run: RunFolder, words: str) -> None:
    """The closed division refuses by name and writes nothing; the open one may use what it likes."""
    with pytest.raises(InvalidError, match=words):
        packed_by_bytes(tmp_path, run)
    assert not (tmp_path / "results" / "submittable").exists()
    assert packed_by_bytes(tmp_path, run, DIVISION="open").parent.name == "open"


def layout_of(root: Path) -> Layout:
    (benchmark,) = tree_folders.layouts(root)
    return benchmark.layout


def failed(root: Path) -> set[str]:
    place = re.compile(r"^(closed|open)/[^/]+/[^/]+/[^/]+/")
    return {place.sub("", c.name) for c in tree.examine(root) if c.passed is not True}


def remove_all(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path)
