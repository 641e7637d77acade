"""Downloads: what is served, and the reason in words for every fault. Local servers only."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import standin_servers
from standin_servers import CF_ID, CF_SECRET, Fault, StandIn

from mlperf_llama.errors import MissingError
from mlperf_llama.sources.fetch import cached, http, r2

pytestmark = pytest.mark.slow

STALL_S = 1.0
PATIENCE = http.Patience(STALL_S, 60)
BODY = bytes(range(256)) * 400
MD5 = hashlib.md5(BODY).hexdigest()
TOKEN = {"CF_ACCESS_CLIENT_ID": CF_ID, "CF_ACCESS_CLIENT_SECRET": CF_SECRET}


@pytest.fixture
def server() -> Iterator[StandIn]:
    with standin_servers.serve() as stand_in:
        stand_in.files["/file"] = BODY
        yield stand_in


# http


def test_a_download_is_whole_and_leaves_no_part(server: StandIn, tmp_path: Path) -> None:
    path = http.download(server.url + "/file", tmp_path / "in" / "file", PATIENCE, md5=MD5)
    assert path.read_bytes() == BODY
    assert [p.name for p in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(401), "HTTP 401: the credentials are missing or wrong"),
        (Fault(403), "HTTP 403: access is denied"),
        (Fault(404), "HTTP 404: there is no such file"),
        (Fault(429), "HTTP 429: too many requests; try again later"),
        (Fault(503, retry_after_s=3600), "HTTP 503: the service is unavailable; try again later"),
        (Fault("hang"), "no answer within"),
        (Fault("slow"), "stalled: "),
        (Fault("cut-off"), "broke off"),
        (Fault("corrupt"), f"corrupted: expected MD5 {MD5}"),
        (Fault("login"), "a web page came instead of the file"),
    ],
    ids=lambda value: str(value.kind) if isinstance(value, Fault) else "",
)
def test_every_fault_has_its_reason_and_leaves_no_file(
    server: StandIn, tmp_path: Path, fault: Fault, words: str
) -> None:
    server.fail("/file", fault)
    started = time.monotonic()
    with pytest.raises(MissingError) as caught:
        http.download(server.url + "/file", tmp_path / "file", PATIENCE, md5=MD5)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "file").exists()
    assert time.monotonic() - started < 20


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no connection: Connection refused"):
        http.get("http://127.0.0.1:9/file", PATIENCE)


def test_a_short_retry_after_is_honoured_once(server: StandIn) -> None:
    server.fail("/file", Fault(503, times=1, retry_after_s=0))
    assert http.get(server.url + "/file", PATIENCE) == BODY
    server.fail("/file", Fault(503, times=2, retry_after_s=0))
    with pytest.raises(http.Refused) as caught:
        http.get(server.url + "/file", PATIENCE)
    assert caught.value.status == 503


def test_a_part_is_taken_up_again(server: StandIn, tmp_path: Path) -> None:
    (tmp_path / "file.part").write_bytes(BODY[:1000])
    http.download(server.url + "/file", tmp_path / "file", PATIENCE, md5=MD5)
    assert server.requests[-1][2]["range"] == "bytes=1000-"
    assert (tmp_path / "file").read_bytes() == BODY


def test_a_cut_off_download_goes_on_where_it_stopped(server: StandIn, tmp_path: Path) -> None:
    server.fail("/file", Fault("cut-off", times=2))
    http.download(server.url + "/file", tmp_path / "file", PATIENCE, md5=MD5)
    assert (tmp_path / "file").read_bytes() == BODY
    assert len(server.requests) == 3


def test_headers_stay_with_the_host(server: StandIn) -> None:
    with standin_servers.serve() as other:
        other.files["/stolen"] = b"x"
        server.reply = lambda path, query, headers: standin_servers.Reply(  # type: ignore[method-assign]
            302, b"", {"Location": other.url + "/stolen"}
        )
        with pytest.raises(http.Refused) as caught:
            http.get(server.url + "/file", PATIENCE, {"Authorization": "Bearer secret"})
        assert caught.value.status == 302
        assert other.requests == []


def test_the_overall_limit_ends_a_steady_download(server: StandIn) -> None:
    server.fail("/file", Fault("slow"))
    with pytest.raises(MissingError, match=r"not finished within 0\.5 s"):
        http.get(server.url + "/file", http.Patience(30, 0.5))


# r2

FILES = {"cnn_eval.json": b"[1, 2]", "deep/er/file with space.txt": b"text"}


def fetch(uri: str, dest: Path, env: dict[str, str]) -> Path:
    return r2.download(uri, dest, env, STALL_S, 60)


def test_r2_serves_a_public_data_set_and_then_needs_no_network(server: StandIn, tmp_path: Path) -> None:
    uri = server.add_r2("cnn", FILES)
    folder = fetch(uri, tmp_path / "cnn", {})
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.*") if p.is_file()} == {
        **FILES,
        cached.COMPLETE: (folder / cached.COMPLETE).read_bytes(),
    }
    asked = len(server.requests)
    assert fetch(uri, tmp_path / "cnn", {}) == folder
    assert len(server.requests) == asked


def test_r2_notices_a_file_that_changed_since(server: StandIn, tmp_path: Path) -> None:
    uri = server.add_r2("cnn", FILES)
    (fetch(uri, tmp_path / "cnn", {}) / "cnn_eval.json").write_bytes(b"[]")
    assert (fetch(uri, tmp_path / "cnn", {}) / "cnn_eval.json").read_bytes() == b"[1, 2]"


def test_r2_sends_the_service_token(server: StandIn, tmp_path: Path) -> None:
    uri = server.add_r2("model", FILES, protected=True)
    assert (fetch(uri, tmp_path / "m", TOKEN) / "cnn_eval.json").is_file()
    secret_file = tmp_path / "secret"
    secret_file.write_text(CF_SECRET + "\n")
    by_file = {"CF_ACCESS_CLIENT_ID": CF_ID, "CF_ACCESS_CLIENT_SECRET_FILE": str(secret_file)}
    assert fetch(uri, tmp_path / "n", by_file).is_dir()


@pytest.mark.parametrize(
    ("env", "words"),
    [({}, "no service token is set"), ({**TOKEN, "CF_ACCESS_CLIENT_SECRET": "x"}, "token was refused")],
)
def test_r2_recognises_the_log_in(server: StandIn, tmp_path: Path, env: dict[str, str], words: str) -> None:
    uri = server.add_r2("model", FILES, protected=True)
    with pytest.raises(MissingError) as caught:
        fetch(uri, tmp_path / "m", env)
    assert words in str(caught.value)
    assert "set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET" in str(caught.value)
    assert CF_SECRET not in str(caught.value)


@pytest.mark.parametrize("where", ["/metadata/cnn.uri", "/metadata/cnn.md5", "/bucket/cnn/cnn_eval.json"])
@pytest.mark.parametrize("kind", [401, 403, 404, 429, 503, "hang", "slow", "cut-off", "corrupt", "login"])
def test_r2_leaves_at_every_fault_of_every_step(
    server: StandIn, tmp_path: Path, where: str, kind: int | str
) -> None:
    uri = server.add_r2("cnn", {"cnn_eval.json": b"[" + b"1," * 40 + b"1]"})
    server.fail(where, Fault(kind))
    started = time.monotonic()
    with pytest.raises(MissingError) as caught:
        fetch(uri, tmp_path / "cnn", {})
    assert time.monotonic() - started < 15
    assert not cached.is_complete(tmp_path / "cnn")
    if kind in (401, 403, "login"):
        assert "CF_ACCESS_CLIENT_ID" in str(caught.value)


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt"])
def test_r2_writes_nowhere_else(server: StandIn, tmp_path: Path, name: str) -> None:
    uri = server.add_r2("cnn", {name: b"x"})
    with pytest.raises(MissingError, match="expected lines of an MD5 and a file name"):
        fetch(uri, tmp_path / "in" / "cnn", {})


def test_r2_sends_its_token_to_no_other_host(server: StandIn, tmp_path: Path) -> None:
    uri = server.add_r2("cnn", FILES)
    server.files["/metadata/cnn.uri"] = b"https://elsewhere.example/bucket/cnn"
    with pytest.raises(MissingError, match="on the same host"):
        fetch(uri, tmp_path / "cnn", TOKEN)
