"""A dataset of one's own: a file or a folder that DATASET_SOURCE names, and what it is worth."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from dataset_support import EDGE, array, pin, settings, shrink

from mlperf_llama.errors import UsageError
from mlperf_llama.sources import dataset
from mlperf_llama.sources.chain import Served

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch)


def from_path(tmp_path: Path, source: Path | str, **flags: str) -> Served:
    return dataset.serve("path", settings(tmp_path, DATASET_SOURCE=str(source), **flags), {})


def test_a_file_of_ones_own_serves_and_is_not_eligible(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"article": "a", "highlights": "h"}\n' * 3)
    served = from_path(tmp_path, file)
    assert (served.source, served.path, served.rows) == ("path", str(file), 3)
    assert served.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert served.details["md5"] == hashlib.md5(file.read_bytes()).hexdigest()
    assert not served.eligible
    assert "has 3 rows and the official file 12" in served.reason
    with pytest.raises(UsageError, match=r"SAMPLES: expected at most 3, .* found 4"):
        from_path(tmp_path, file, SAMPLES="4")


def test_the_official_file_is_eligible_by_its_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "cnn_eval.json").write_bytes(array())
    unproven = from_path(tmp_path, folder)
    assert not unproven.eligible
    assert "no published checksum verifies the file" in unproven.reason
    pin(monkeypatch, array())
    proven = from_path(tmp_path, folder)
    assert proven.eligible
    assert proven.reason == ""
    assert proven.details["proof"] == "SHA-256"
    # The same file does not serve the other category.
    edge = from_path(tmp_path, folder, CATEGORY="edge")
    assert not edge.eligible
    assert "has 12 rows and the official file 5" in edge.reason


def test_the_downloaders_md5_list_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cnn_eval.json"
    file.write_bytes(array())
    listing = tmp_path / "llama3-1-8b-cnn-eval.md5"
    listing.write_text(f"{hashlib.md5(array()).hexdigest()}  ./cnn_eval.json\n")
    assert not from_path(tmp_path, file).eligible
    file.write_bytes(array() + b"\n")
    with pytest.raises(UsageError, match=r"cnn_eval\.json: corrupted: expected MD5"):
        from_path(tmp_path, file)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"instruction": "Other {input}"}, "not the reference prompt"), ({"tok_input": None}, "token ids")],
)
def test_a_listed_file_that_cannot_be_the_official_one(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    file = tmp_path / "cnn_eval.json"
    file.write_bytes(array(**changes))
    (tmp_path / "x.md5").write_text(f"{hashlib.md5(file.read_bytes()).hexdigest()}  cnn_eval.json\n")
    served = from_path(tmp_path, file)
    assert not served.eligible
    assert reason in served.reason


def test_a_folder_prefers_the_categorys_own_file(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(UsageError, match=r"expected cnn_eval\.json in the folder .*, found none"):
        from_path(tmp_path, folder)
    (folder / "cnn_eval.json").write_bytes(array())
    (folder / "sample_cnn_eval_5000.json").write_bytes(array(EDGE))
    assert from_path(tmp_path, folder).path.endswith("/cnn_eval.json")
    assert from_path(tmp_path, folder, CATEGORY="edge").path.endswith("/sample_cnn_eval_5000.json")


def test_a_path_that_is_not_there_offers_the_name_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such path: .*sinthetic; did you mean synthetic\?"):
        from_path(tmp_path, "sinthetic")
