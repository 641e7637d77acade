"""Hashes, and files and folders that appear whole or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mlperf_llama.records import files


def test_both_digests_in_one_reading(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (2 * files.BLOCK + 7))
    content = path.read_bytes()
    assert files.digests(path) == (hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest())
    assert files.digests(path) == (files.digest(path), files.digest(path, "md5"))


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "models" / "tokenizer"
    with files.atomic_folder(target) as made:
        (made / "config.json").write_text("{}")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["config.json"]
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyError), files.atomic_folder(tmp_path / "tree") as made:
        (made / "config.json").write_text("{}")
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_the_faster_process_keeps_its_folder(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    with pytest.raises(FileExistsError), files.atomic_folder(target) as made:
        (made / "slower").write_text("")
        target.mkdir()
        (target / "faster").write_text("")
    assert [path.name for path in target.iterdir()] == ["faster"]
    assert list(tmp_path.iterdir()) == [target]
