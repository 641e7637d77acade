"""Hashes, and files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from mlperf_llama.errors import UsageError
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


def test_a_text_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "results.json"
    files.write_text(path, "old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_text(path, "new")
    assert (path.read_text(), [p.name for p in tmp_path.iterdir()]) == ("old", ["results.json"])


def test_a_file_is_replaced_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    files.write_text(path, "old")
    with path.open() as reader:
        files.write_text(path, "new")
        assert reader.read() == "old"


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000])
def test_what_is_no_json_object_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="expected a JSON object"):
        files.read_object(path)
    assert files.object_or_empty(path) == {}
