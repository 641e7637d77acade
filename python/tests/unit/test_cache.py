"""The cache: several first runs at once, files that are cut off or gone, servers without an end."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
import standin_servers
from standin_servers import Fault, StandIn

from mlperf_llama import config as configs
from mlperf_llama.errors import MissingError
from mlperf_llama.records import lock
from mlperf_llama.records.files import digest
from mlperf_llama.sources.dataset import synthetic
from mlperf_llama.sources.fetch import cached, http, hub_cache, r2
from mlperf_llama.sources.model import fake

pytestmark = pytest.mark.slow
STALL_S = 1.0
PATIENCE = http.Patience(STALL_S, 60)
BODY = bytes(range(256)) * 400
MD5 = hashlib.md5(BODY).hexdigest()
T = TypeVar("T")
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def server() -> Iterator[StandIn]:
    with standin_servers.serve() as stand_in:
        stand_in.files["/file"] = BODY
        yield stand_in


def at_once(count: int, work: Callable[[], T]) -> list[T]:
    """`work` in several threads, which start it together."""
    barrier = threading.Barrier(count)

    def one() -> T:
        barrier.wait(10)
        return work()

    with ThreadPoolExecutor(count) as pool:
        return [future.result(60) for future in [pool.submit(one) for _ in range(count)]]


# --- several at once


def test_one_fetches_a_file_and_the_others_take_it(server: StandIn, tmp_path: Path) -> None:
    dest = tmp_path / "file"
    at_once(4, lambda: http.download(server.url + "/file", dest, PATIENCE, md5=MD5))
    assert dest.read_bytes() == BODY and len(server.requests) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_without_a_checksum_each_fetches_and_none_is_mixed(server: StandIn, tmp_path: Path) -> None:
    dest = tmp_path / "file"
    at_once(4, lambda: http.download(server.url + "/file", dest, PATIENCE))
    assert dest.read_bytes() == BODY and len(server.requests) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_one_fetches_a_data_set_and_the_others_take_it(server: StandIn, tmp_path: Path) -> None:
    uri = server.add_r2("cnn", {"a.json": BODY, "deep/b.json": BODY[:1000]})
    folders = at_once(4, lambda: r2.download(uri, tmp_path / "cnn", {}, STALL_S, 60))
    assert set(folders) == {tmp_path / "cnn"} and cached.is_complete(tmp_path / "cnn")
    assert len(server.requests) == 4  # the two lists and the two files


def test_one_makes_the_articles_and_the_others_take_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, articles = [], synthetic.articles

    def counted(seed: int, count: int) -> Iterator[dict[str, str]]:
        made.append(seed)
        time.sleep(0.2)
        return articles(seed, 20)

    monkeypatch.setattr(synthetic, "articles", counted)
    config = configs.load({"CACHE_DIR": str(tmp_path)}, {})
    served = at_once(4, lambda: synthetic.serve(config, {}))
    assert len(made) == 1 and len({s.sha256 for s in served}) == 1
    assert digest(Path(served[0].path)) == served[0].sha256


def test_one_makes_a_folder_and_the_others_take_it(tmp_path: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        time.sleep(0.2)
        (folder / "tokenizer.json").write_text("{}")

    at_once(4, lambda: cached.provide(tmp_path / "model", make, lambda folder: ""))
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_who_waits_says_for_whom(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.turn(tmp_path / "weights"):
            entered.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    entered.wait(10)
    with caplog.at_level(logging.WARNING):
        waiter = threading.Thread(target=lambda: lock.turn(tmp_path / "weights").__enter__())
        waiter.start()
        time.sleep(0.5)
        assert waiter.is_alive()
        leave.set()
        holder.join(10)
        waiter.join(10)
    (record,) = caplog.records
    assert f"is fetched or made by process {os.getpid()} on" in record.getMessage()


def test_the_turn_of_a_killed_process_goes_to_the_next(tmp_path: Path) -> None:
    pid = os.fork()
    if not pid:
        lock.turn(tmp_path / "weights").__enter__()
        os._exit(9)
    os.waitpid(pid, 0)
    with lock.turn(tmp_path / "weights"):
        pass
    assert list(tmp_path.iterdir()) == []


# --- nothing in it needs a human


def fill(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "llama"}\n')
    (folder / "tokenizer.json").write_text('{"vocabulary": [1, 2, 3]}\n')
    (folder / "deep").mkdir()
    (folder / "deep" / "weights").write_bytes(BODY)


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != cached.COMPLETE)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], None]] = {
    "removed": Path.unlink,
    "cut off": cut,
    "empty": empty,
    "a folder": folder_instead,
}


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "deep/weights"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_made_again(tmp_path: Path, name: str, damage: str) -> None:
    folder = tmp_path / "model"
    cached.provide(folder, fill, lambda folder: "")
    whole = content(folder)
    DAMAGE[damage](folder / name)
    cached.provide(folder, fill, lambda folder: "")
    assert content(folder) == whole and cached.is_complete(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("stands_there", ["file", "link", "empty folder"])
def test_whatever_stands_in_its_place_gives_way(tmp_path: Path, stands_there: str) -> None:
    folder = tmp_path / "model"
    if stands_there == "file":
        folder.write_text("x")
    elif stands_there == "link":
        folder.symlink_to(tmp_path / "nowhere")
    else:
        folder.mkdir()
    cached.provide(folder, fill, lambda folder: "" if (folder / "config.json").is_file() else "no config")
    assert set(content(folder)) == {"config.json", "tokenizer.json", "deep/weights"}


def test_a_folder_of_an_earlier_version_is_kept_where_it_is_whole(tmp_path: Path) -> None:
    for name, damaged in (("whole", False), ("cut", True)):
        folder = tmp_path / name
        folder.mkdir()
        fill(folder)
        if damaged:
            cut(folder / "tokenizer.json")
        before = (folder / "config.json").stat().st_mtime_ns
        cached.provide(folder, fill, lambda folder: "")
        assert ((folder / "config.json").stat().st_mtime_ns != before) is damaged
        assert cached.is_complete(folder)


def test_what_a_killed_maker_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".model.abcd1234" / "model").mkdir(parents=True)
    cached.provide(tmp_path / "model", fill, lambda folder: "")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("damage", ["removed", "cut off"])
def test_the_fake_model_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr(fake, "TRAINED_ON", 2)
    config = configs.load({"ENGINE": "fake", "CACHE_DIR": str(tmp_path)}, {})
    first = fake.serve(config, {})
    for name in ("tokenizer.json", "config.json", "generation_config.json", "tokenizer_config.json"):
        DAMAGE[damage](Path(first.path) / name)
        assert fake.serve(config, {}).sha256 == first.sha256
    shutil.rmtree(first.path)
    assert fake.serve(config, {}).sha256 == first.sha256


def test_a_file_of_the_hub_s_cache_is_told_by_its_name(tmp_path: Path) -> None:
    git = hashlib.sha1(b"blob %d\0" % len(BODY) + BODY, usedforsecurity=False).hexdigest()
    for name in (hashlib.sha256(BODY).hexdigest(), git, MD5):
        blob = tmp_path / name
        blob.write_bytes(BODY)
        assert not hub_cache.is_damaged(blob)
        cut(blob)
        assert hub_cache.is_damaged(blob) is (name != MD5)  # a mirror's own name says nothing
        blob.unlink()
        assert hub_cache.is_damaged(blob)


# --- servers without an end


def test_headers_that_drip_do_not_outlast_the_limit(server: StandIn, tmp_path: Path) -> None:
    server.fail("/file", Fault("slow-headers"))
    began = time.monotonic()
    with pytest.raises(MissingError, match="no answer within"):
        http.download(server.url + "/file", tmp_path / "file", PATIENCE, md5=MD5)
    assert time.monotonic() - began < 10 * STALL_S


@pytest.mark.parametrize("md5", [None, MD5])
def test_a_body_without_an_end_is_given_up(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, md5: str | None
) -> None:
    monkeypatch.setattr(http, "MAX_FILE_BYTES", 1 << 20)
    server.fail("/file", Fault("endless"))
    with pytest.raises(MissingError, match=r"given up after \d+ bytes: no length was announced, no end came"):
        http.download(server.url + "/file", tmp_path / "file", PATIENCE, md5=md5)
    assert list(tmp_path.iterdir()) == []


def test_a_body_without_an_end_leaves_room_on_the_disk(
    server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = (100 << 30) // 50 + (1 << 20)
    monkeypatch.setattr(http, "SPARE_BYTES", 100 << 30)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(100 << 30, 0, free))
    server.fail("/file", Fault("endless"))
    with pytest.raises(MissingError, match="given up after"):
        http.download(server.url + "/file", tmp_path / "file", PATIENCE)
    assert list(tmp_path.iterdir()) == []


def test_a_length_that_no_disk_has_is_refused_at_once(server: StandIn, tmp_path: Path) -> None:
    server.fail("/file", Fault("huge"))
    with pytest.raises(MissingError, match=r"1152921504606846976 bytes are to come, and .* has room for"):
        http.download(server.url + "/file", tmp_path / "file", PATIENCE, md5=MD5)
    assert list(tmp_path.iterdir()) == []


# --- names of our own


@pytest.mark.parametrize("name", [".complete.json", "deep/.complete.json", "a.json.part", ".a.json.lock"])
def test_a_list_cannot_name_our_own_files(server: StandIn, tmp_path: Path, name: str) -> None:
    uri = server.add_r2("cnn", {"a.json": BODY, name: b'{"files": {"a.json": [0, 0]}}'})
    with pytest.raises(MissingError, match="expected names of data files, found"):
        r2.download(uri, tmp_path / "cnn", {}, STALL_S, 60)
    assert not cached.is_complete(tmp_path / "cnn")


def test_a_folder_made_out_of_another_one_is_made_once(tmp_path: Path) -> None:
    """The other one's list of files comes along, and is no file of the new one."""
    made: list[Path] = []

    def first(folder: Path) -> None:
        (folder / "tokenizer.json").write_text("{}")

    def second(folder: Path) -> None:
        made.append(folder)
        shutil.copytree(tmp_path / "first", folder, dirs_exist_ok=True)

    cached.provide(tmp_path / "first", first, lambda folder: "")
    for _ in range(3):
        cached.provide(tmp_path / "second", second, lambda folder: "")
    assert len(made) == 1 and cached.is_complete(tmp_path / "second")
