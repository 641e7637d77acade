"""Members' processes: started where they belong, ended with all that they started, named when they fail."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mlperf_llama.engine.replicas import launch_processes, member_process, supervisor
from mlperf_llama.engine.replicas.launch_processes import ProcessLauncher, local, srun, ssh
from mlperf_llama.engine.replicas.member_process import SUPERVISOR, MemberProcess, with_package
from mlperf_llama.engine.replicas.protocol import HeadAddress, MemberSpec
from mlperf_llama.errors import MissingError
from mlperf_llama.machine import numa

pytestmark = pytest.mark.slow
HEAD = HeadAddress("127.0.0.1", 9, "a-token-of-this-test")
MARK = "LAUNCHER_TEST"


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """In the environment of every process of a test; none of them may be left."""
    text = f"{os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(MARK, text)
    yield text
    assert with_mark(text) == []


def with_mark(text: str) -> list[str]:
    command_lines = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == text:
                command_lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return command_lines


def supervising() -> psutil.Process:
    """The supervisor that this process started, beside whatever other tests have left."""
    children = psutil.Process().children()
    return next(child for child in children if "supervisor" in " ".join(child.cmdline()))


def eventually(holds: Callable[[], bool], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the package's command, which a test writes: what a worker does is not asked here."""
    real = Path(supervisor.__file__).resolve().parents[2]
    stand_in = tmp_path / "mlperf_llama"
    stand_in.mkdir()
    for entry in real.iterdir():
        if entry.name != "__main__.py":
            (stand_in / entry.name).symlink_to(entry)
    monkeypatch.setattr(member_process, "PACKAGE_FOLDER", str(tmp_path))
    return stand_in / "__main__.py"


async def failure_of(launcher: ProcessLauncher, index: int = 0) -> str:
    for _ in range(1000):
        if index in launcher.failures():
            return launcher.failures()[index]
        await asyncio.sleep(0.02)
    raise AssertionError("it did not end")


def run(
    members: list[MemberSpec], also: Callable[[ProcessLauncher], object] = lambda _: None
) -> dict[int, str]:
    """Start members here, wait for the first to end, stop; what the failures were."""

    async def life() -> dict[int, str]:
        launcher = ProcessLauncher(local)
        await launcher.start(members, HEAD)
        try:
            also(launcher)
            await failure_of(launcher)
            return dict(launcher.failures())
        finally:
            await launcher.stop()
            await launcher.stop()

    return asyncio.run(life())


def test_a_member_gets_its_gpu_its_token_and_its_place(package: Path, mark: str) -> None:
    package.write_text(
        "import json, os, sys\n"
        "names = ('CUDA_VISIBLE_DEVICES', 'REPLICAS_TOKEN', 'EXTRA', 'MLPERF_ENV_FILE')\n"
        "cpus = sorted(os.sched_getaffinity(0))\n"
        "print(json.dumps([sys.argv[1:], *(os.environ.get(n) for n in names), cpus]))\n"
        "sys.exit(7)\n"
    )
    cpu = min(os.sched_getaffinity(0))
    specs = [MemberSpec(n, gpu=str(n + 4), cpus=(cpu,), environment={"EXTRA": f"e{n}"}) for n in range(2)]
    failures = run(specs, lambda launcher: eventually(lambda: len(launcher.failures()) == 2))
    for index, words in failures.items():
        assert words.startswith("ended with code 7: ")
        arguments, *rest = json.loads(words.removeprefix("ended with code 7: "))
        assert arguments == ["worker", "--head", "127.0.0.1:9", "--member", str(index)]
        assert rest == [str(index + 4), HEAD.token, f"e{index}", "/dev/null", [cpu]]


def test_no_command_line_holds_the_token(package: Path, mark: str) -> None:
    package.write_text("import time\ntime.sleep(60)\n")

    async def life() -> None:
        launcher = ProcessLauncher(local)
        await launcher.start([MemberSpec(0)], HEAD)
        while len(with_mark(mark)) < 2:
            await asyncio.sleep(0.02)
        assert not [line for line in with_mark(mark) if HEAD.token in line]
        await launcher.stop()

    asyncio.run(life())


FAMILY = """
import os, subprocess, sys, time
# One child in the worker's group, one that has left it, and a grandchild whose parent is gone.
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"], start_new_session=True)
subprocess.run([sys.executable, "-c", "import subprocess, sys; subprocess.Popen([sys.executable, '-c', "
    "'import time; time.sleep(99)'], start_new_session=True)"])
"""


@pytest.mark.parametrize("stubborn", [False, True], ids=["plain", "ignores TERM"])
def test_stop_ends_the_whole_family(package: Path, mark: str, stubborn: bool) -> None:
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" if stubborn else ""
    package.write_text(ignore + FAMILY + "time.sleep(99)\n")

    async def life() -> float:
        launcher = ProcessLauncher(local)
        await launcher.start([MemberSpec(0), MemberSpec(1)], HEAD)
        while len(with_mark(mark)) < 10:
            await asyncio.sleep(0.02)
        began = time.monotonic()
        await launcher.stop()
        return time.monotonic() - began

    assert asyncio.run(life()) < member_process.STOP_S + 1


def test_a_worker_s_own_end_ends_its_family(package: Path, mark: str) -> None:
    package.write_text(FAMILY + "sys.exit('no more memory')\n")
    assert run([MemberSpec(0)]) == {0: "ended with code 1: no more memory"}


def test_a_killed_worker_is_named_by_its_signal(package: Path, mark: str) -> None:
    package.write_text("import os\nprint('half a word', flush=True)\nos.kill(os.getpid(), 9)\n")
    words = run([MemberSpec(0)])[0]
    assert words == "ended with code 137: half a word; the worker was ended by SIGKILL"


@pytest.mark.parametrize("whom", ["worker", "supervisor", "both"])
def test_stopped_processes_are_ended_too(package: Path, mark: str, whom: str) -> None:
    package.write_text(FAMILY + "time.sleep(99)\n")

    async def life() -> None:
        launcher = ProcessLauncher(local)
        await launcher.start([MemberSpec(0)], HEAD)
        while len(with_mark(mark)) < 5:
            await asyncio.sleep(0.02)
        parent = supervising()
        worker = next(child for child in parent.children() if "worker" in child.cmdline())
        for process in {"worker": [worker], "supervisor": [parent], "both": [parent, worker]}[whom]:
            process.suspend()
        await launcher.stop()

    asyncio.run(life())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_members_do_not_outlive_their_head(package: Path, mark: str, number: int) -> None:
    package.write_text(FAMILY + "time.sleep(99)\n")
    code = (
        "import asyncio, signal\n"
        # Whoever started the tests in the background may have left it ignored.
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
        "from mlperf_llama.engine.replicas import member_process\n"
        f"member_process.PACKAGE_FOLDER = {member_process.PACKAGE_FOLDER!r}\n"
        "from mlperf_llama.engine.replicas.launch_processes import ProcessLauncher, local\n"
        "from mlperf_llama.engine.replicas.protocol import HeadAddress, MemberSpec\n"
        "async def life():\n"
        "    launcher = ProcessLauncher(local)\n"
        "    await launcher.start([MemberSpec(0)], HeadAddress('127.0.0.1', 9, 't'))\n"
        "    await asyncio.sleep(99)\n"
        "asyncio.run(life())\n"
    )
    folder = str(Path(supervisor.__file__).resolve().parents[3])
    head = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": folder})
    eventually(lambda: len(with_mark(mark)) >= 6)
    head.send_signal(number)
    head.wait()
    eventually(lambda: with_mark(mark) == [], 8)


def test_a_supervisor_that_is_killed_takes_its_worker_along(package: Path, mark: str) -> None:
    package.write_text("import time\ntime.sleep(99)\n")

    def kill(launcher: ProcessLauncher) -> None:
        eventually(lambda: len(with_mark(mark)) == 2)
        supervising().kill()

    assert run([MemberSpec(0)], kill)[0].startswith("was ended by SIGKILL: ")
    # The kernel sends the worker its signal; it takes the worker a moment to be gone.
    eventually(lambda: with_mark(mark) == [], 8)


def test_without_an_order_nothing_is_started(mark: str) -> None:
    process = MemberProcess(SUPERVISOR, with_package(os.environ), b"")
    process.ask_to_end()
    eventually(lambda: not process.running)
    assert "expected an order" in str(process.failure())
    process.kill()


def stub(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_ssh_gets_a_host_and_one_command_and_the_order_on_its_input(
    package: Path, mark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for ssh that does as sshd does: a shell, one string, an environment of its own."""
    package.write_text("import os\nprint('on', os.environ.get('HERE'), os.environ['REPLICAS_TOKEN'])\n")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    stub(
        bin_folder,
        "ssh",
        "#!/bin/sh\n"
        f'printf "%s\\n" "$@" >>{tmp_path}/argv\n'
        'while [ "$1" != -- ]; do shift; done\n'
        f'exec env -i {MARK}="${MARK}" HERE="$2" sh -c "$3"\n',
    )
    monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
    monkeypatch.setattr(launch_processes, "PACKAGE_FOLDER", str(tmp_path))

    async def life() -> str:
        launcher = ProcessLauncher(ssh)
        await launcher.start([MemberSpec(0, "node-a")], HEAD)
        words = await failure_of(launcher)
        await launcher.stop()
        return words

    assert asyncio.run(life()) == f"ended with code 0: on node-a {HEAD.token}"
    argv = (tmp_path / "argv").read_text()
    assert "BatchMode=yes" in argv and "\n--\nnode-a\n" in argv
    assert HEAD.token not in argv


def test_srun_runs_one_step_on_the_host() -> None:
    command = srun("node-b", ["python", "-m", "x"])
    assert command[0] == "srun" and command[-3:] == ["python", "-m", "x"]
    assert {"--nodelist=node-b", "--ntasks=1", "--overlap"} <= set(command)


def test_what_starts_a_member_must_be_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    async def life() -> None:
        await ProcessLauncher(srun).start([MemberSpec(3, "node-c", "2")], HEAD)

    with pytest.raises(MissingError, match="member 3 on node-c, GPU 2: expected srun"):
        asyncio.run(life())


def test_cpus_beside_a_gpu_are_those_of_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = tmp_path / "0000:1b:00.0"
    slot.mkdir()
    (slot / "local_cpulist").write_text("0-3,8\n")
    assert numa.local_cpus("00000000:1B:00.0", tmp_path) == (0, 1, 2, 3, 8)
    assert numa.local_cpus("00000000:1C:00.0", tmp_path) == ()
    assert numa.parse_cpus("\n") == ()

    class Library:
        def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
            return f"card {index}"

        def nvmlDeviceGetPciInfo(self, handle: str) -> object:
            return type("Info", (), {"busId": b"00000000:1B:00.0"}) if handle == "card 3" else None

    monkeypatch.setattr(numa.nvml, "load", Library)
    monkeypatch.setattr(numa, "SYSFS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 4})
    assert numa.cpus_beside("3,4") == (2, 3)
    assert numa.cpus_beside("5") is None
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {9})
    assert numa.cpus_beside("3") is None
