"""Where the sentence model comes from: here, the wheel, NLTK's downloader; once only."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nltk
import pytest
import score_support as support

from mlperf_llama.errors import MissingError
from mlperf_llama.score import nltk_data

PLACE = "tokenizers/punkt_tab/english"


@pytest.fixture
def model() -> Path:
    return support.sentence_model() / PLACE


@pytest.fixture(autouse=True)
def empty_search_path(monkeypatch: pytest.MonkeyPatch, model: Path) -> Iterator[None]:
    monkeypatch.setattr(nltk.data, "path", [])
    nltk.tokenize._get_punkt_tokenizer.cache_clear()
    yield
    nltk.tokenize._get_punkt_tokenizer.cache_clear()


@pytest.fixture
def no_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Path:
        raise AssertionError("nothing may be fetched here")

    monkeypatch.setattr(nltk_data, "_from_wheel", refuse)
    monkeypatch.setattr(nltk_data, "_from_nltk", refuse)


def fake_wheel(monkeypatch: pytest.MonkeyPatch, serve: Callable[[Path], None]) -> list[str]:
    """Put `serve` in pip's place; gives the names requested for."""
    from mlperf_llama.sources.fetch import wheel

    requested: list[str] = []

    def extract(name: str, dest: Path, members: Callable[[str], bool]) -> list[Path]:
        requested.append(name)
        assert members("llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/english/abbrev_types.txt")
        assert not members("llama_index/core/_static/nltk_cache/tokenizers/punkt_tab/german/abbrev_types.txt")
        assert not members("llama_index/core/_static/nltk_cache/tokenizers/punkt_tab.zip")
        dest.mkdir(parents=True)
        serve(dest)
        return sorted(dest.iterdir())

    monkeypatch.setattr(wheel, "extract", extract)
    return requested


def broken_downloader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nltk_data, "DOWNLOAD", "raise SystemExit('no way out')")


def copy_to(model: Path) -> Callable[[Path], None]:
    return lambda dest: shutil.copytree(model, dest, dirs_exist_ok=True) and None


def splits() -> bool:
    return nltk.sent_tokenize("Mr. Smith left. He was late.") == ["Mr. Smith left.", "He was late."]


def test_nltk_data_is_found_first(tmp_path: Path, model: Path, no_fetch: None) -> None:
    shutil.copytree(model, tmp_path / "mine" / PLACE)
    env = {"NLTK_DATA": f"{tmp_path / 'nothing'}:{tmp_path / 'mine'}"}
    assert nltk_data.ensure(tmp_path / "cache", env) == tmp_path / "mine"
    assert nltk.data.path[0] == str(tmp_path / "mine")
    assert splits()
    assert not (tmp_path / "cache").exists()


def test_nltks_own_places_are_looked_at(
    tmp_path: Path, model: Path, no_fetch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(model, tmp_path / "prefix" / PLACE)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path / "no"), str(tmp_path / "prefix")])
    assert nltk_data.ensure(tmp_path / "cache", {}) == tmp_path / "prefix"
    assert splits()


def test_sys_prefix_is_one_of_nltks_places() -> None:
    """`install` bakes the model into <sys.prefix>/nltk_data and relies on this."""
    code = "import nltk, sys, os; print(os.path.join(sys.prefix, 'nltk_data') in nltk.data.path)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_the_wheel_serves_once(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested = fake_wheel(monkeypatch, copy_to(model))
    for _ in range(3):
        assert nltk_data.ensure(tmp_path, {}) == tmp_path / "nltk_data"
    assert requested == ["llama-index-core"]
    assert splits()
    assert [p.name for p in (tmp_path / "nltk_data").iterdir()] == ["tokenizers"], "nothing is left behind"


def test_cached_data_needs_no_network(
    tmp_path: Path, model: Path, no_fetch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network may not be used")

    shutil.copytree(model, tmp_path / "nltk_data" / PLACE)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    nltk_data.ensure(tmp_path, {})
    assert splits()


@pytest.mark.parametrize("damage", ["cut", "absent"])
def test_a_damaged_cache_is_mended(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    shutil.copytree(model, tmp_path / "nltk_data" / PLACE)
    file = tmp_path / "nltk_data" / PLACE / "ortho_context.tab"
    file.unlink() if damage == "absent" else file.write_text("cut")
    fake_wheel(monkeypatch, copy_to(model))
    nltk_data.ensure(tmp_path, {})
    assert file.read_bytes() == (model / file.name).read_bytes()


def test_a_model_that_is_not_the_official_one_is_used_with_a_warning(
    tmp_path: Path, model: Path, no_fetch: None, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(model, tmp_path / PLACE)
    (tmp_path / PLACE / "abbrev_types.txt").write_text("mr\n")
    assert nltk_data.ensure(tmp_path / "cache", {"NLTK_DATA": str(tmp_path)}) == tmp_path
    assert "sentence_model_differs" in caplog.text


def test_official_articles_are_scored_by_the_official_model_alone(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that NLTK_DATA names would split the sentences otherwise, and so decide ROUGE-Lsum."""
    shutil.copytree(model, tmp_path / PLACE)
    (tmp_path / PLACE / "abbrev_types.txt").write_text("mr\n")
    fake_wheel(monkeypatch, copy_to(model))
    cache = tmp_path / "cache"
    assert nltk_data.ensure(cache, {"NLTK_DATA": str(tmp_path)}, official=True) == cache / "nltk_data"


def test_nltks_downloader_is_next(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(dest: Path) -> None:
        raise MissingError("no package index")

    fake_wheel(monkeypatch, gone)
    copy = f"import shutil, sys; shutil.copytree({str(model)!r}, sys.argv[1] + '/{PLACE}')"
    monkeypatch.setattr(nltk_data, "DOWNLOAD", copy)
    assert nltk_data.install(tmp_path) == tmp_path
    nltk_data.use(tmp_path)
    assert splits()


def test_a_wheel_with_other_content_is_refused(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(dest: Path) -> None:
        shutil.copytree(model, dest, dirs_exist_ok=True)
        (dest / "abbrev_types.txt").write_text("mr\n")

    fake_wheel(monkeypatch, other)
    broken_downloader(monkeypatch)
    with pytest.raises(
        MissingError, match=r"abbrev_types\.txt: expected sha256 92a3.*could not be reached.*NLTK_DATA"
    ):
        nltk_data.ensure(tmp_path, {})
    assert not (tmp_path / "nltk_data/tokenizers").exists()


def test_a_downloader_that_hangs_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(dest: Path) -> None:
        raise MissingError("no package index")

    fake_wheel(monkeypatch, gone)
    monkeypatch.setattr(nltk_data, "DOWNLOAD", "import time; time.sleep(600)")
    monkeypatch.setattr(nltk_data, "DOWNLOADER_DEADLINE_S", 0.5)
    started = time.monotonic()
    with pytest.raises(MissingError, match="no package index; NLTK's downloader: no answer"):
        nltk_data.install(tmp_path / "new")
    assert time.monotonic() - started < 30


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MissingError, match="expected a folder that can be written"):
        nltk_data.install(tmp_path / "file")
