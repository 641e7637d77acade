"""How a run can break, and what is said then."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from loadgen_support import LIMITS, Idle, Prompts, plan_of, run_engine, run_fake, run_plan

from mlperf_llama import rules
from mlperf_llama.engine import Limits, Request, Sink
from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.errors import BrokeError, MissingError, UsageError
from mlperf_llama.loadgen import drive as driving
from mlperf_llama.loadgen import logs, process
from mlperf_llama.loadgen.plan import Plan
from mlperf_llama.records.events import Events

pytestmark = pytest.mark.slow

PACKAGES = Path(__file__).parents[2]


@pytest.mark.parametrize("round", rules.ROUNDS)
def test_missing_loadgen_names_its_version(round: str, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=rules.ROUNDS[round].loadgen_version):
        run_fake({}, plan_of(round=round), tmp_path, loadgen_root=tmp_path)


def test_loadgen_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "6.0.17").mkdir()
    (tmp_path / "6.0.17" / "mlperf_loadgen.py").write_text("raise ImportError('wrong interpreter')")
    with pytest.raises(BrokeError, match="wrong interpreter"):
        run_fake({}, plan_of(), tmp_path / "out", loadgen_root=tmp_path)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a folder that can be written"):
        run_fake({}, plan_of(), tmp_path / "file" / "out")


def test_too_few_samples(tmp_path: Path) -> None:
    run = driving.drive(FakeEngine({}), Prompts(4), LIMITS, plan_of(), tmp_path, Events(None))
    with pytest.raises(UsageError, match="expected 8 samples, found 4"):
        asyncio.run(run)


def test_corrupt_user_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "user_conf", lambda plan: "*.Offline.target_qps=1\n*.x = y\n")
    with pytest.raises(BrokeError, match=r"user.conf: expected lines .* returned -22"):
        run_fake({}, plan_of(), tmp_path)


def test_model_string_that_matches_nothing(tmp_path: Path) -> None:
    plan = replace(plan_of(), loadgen_model="llama3.1-8b")
    with pytest.raises(BrokeError, match=r"expected settings for model 'llama3\.1-8b', found none"):
        run_fake({}, plan, tmp_path)


def test_loadgen_that_cannot_open_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_folder(plan: Plan, out: Path, conf: Path | None, root: Path | None) -> Any:
        return replace(process.write_spec(plan, out, conf, root), out_dir=str(out / "gone"))

    monkeypatch.setattr(driving, "write_spec", without_folder)
    with pytest.raises(BrokeError, match=r"LoadGen 6\.0\.17 wrote no logs .*Failed to open"):
        run_fake({}, plan_of(), tmp_path)


def children() -> list[psutil.Process]:
    # Other modules may have left a dead child of their own that nobody has waited for.
    alive = [c for c in psutil.Process().children() if c.status() != psutil.STATUS_ZOMBIE]
    return [c for c in alive if "mlperf_llama.loadgen.child" in c.cmdline()]


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, signal.SIGKILL])
def test_child_that_dies_is_a_message_and_its_logs_stay(number: signal.Signals, tmp_path: Path) -> None:
    async def body() -> None:
        run = asyncio.create_task(run_plan(FakeEngine({"fault": {"hang_at": 3}}), plan_of(), tmp_path))
        await until(lambda: (tmp_path / logs.DETAIL).exists())
        os.kill(children()[0].pid, number)
        with pytest.raises(BrokeError, match=rf"{number.name} \(code {128 + number}\)"):
            await run

    asyncio.run(body())
    assert (tmp_path / logs.DETAIL).exists()
    assert not children()


def test_engine_that_dies_in_the_middle_and_a_run_after_it(tmp_path: Path) -> None:
    with pytest.raises(BrokeError, match="died after 5 answers"):
        run_fake({"fault": {"die_at": 5}}, plan_of(), tmp_path)
    assert not children()
    assert run_fake({}, plan_of(), tmp_path).samples == 8


def test_engine_that_hangs(tmp_path: Path) -> None:
    with pytest.raises(BrokeError, match=r"expected a response within 0\.6 s, 5 requests wait"):
        run_fake({"fault": {"hang_at": 3}}, plan_of(), tmp_path, stall_s=0.6)


def test_loadgen_that_sends_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its clock is set back, and it waits until that has caught up."""
    monkeypatch.setattr(driving, "PAUSE_S", 0.5)
    monkeypatch.setattr(driving, "PAUSE_INTERVALS", 1.0)

    async def body() -> None:
        plan = replace(plan_of(rules.SERVER), target_qps=2.0)
        run = asyncio.create_task(run_plan(FakeEngine({}), plan, tmp_path))
        await until(lambda: (tmp_path / logs.DETAIL).exists())
        os.kill(children()[0].pid, signal.SIGSTOP)
        with pytest.raises(
            BrokeError, match=r"next query or its end within 1 s, neither came after \d of .*clock"
        ):
            await asyncio.wait_for(run, 20)

    asyncio.run(body())
    assert not children()


def test_cancelling_ends_the_child_within_a_second(tmp_path: Path) -> None:
    async def body() -> None:
        run = asyncio.create_task(run_plan(Idle(), plan_of(), tmp_path))
        await until(children)
        begun = time.monotonic()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert time.monotonic() - begun < 1
        assert not children()

    asyncio.run(body())


class Rogue(Idle):
    """Answers each request by `act(sink, request id)`."""

    def __init__(self, act: Callable[[Sink, int], Any]) -> None:
        self._act = act

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        for request in requests:
            asyncio.get_running_loop().call_soon(self._act, sink, request.id)


@pytest.mark.parametrize(
    ("scenario", "act", "message"),
    [
        (rules.OFFLINE, lambda sink, i: sink.completed(i + 10**6, [1, 2]), "unknown or sent before"),
        (rules.OFFLINE, lambda sink, i: [sink.completed(i, [1, 2])] * 2, None),
        (rules.OFFLINE, lambda sink, i: [sink.completed(i, [1, 2]) for _ in "ab"], "unknown or sent"),
        (rules.OFFLINE, lambda sink, i: sink.completed(i, []), "an empty response"),
        (rules.OFFLINE, lambda sink, i: sink.first_token(i, 1), "not requested"),
        (rules.SERVER, lambda sink, i: sink.completed(i, [1, 2]), "before its first token"),
        (rules.SERVER, lambda sink, i: [sink.first_token(i, 1) for _ in "ab"], "unknown, sent"),
        (rules.SINGLE_STREAM, lambda sink, i: sink.failed(OSError("no memory")), "engine: died: no memory"),
    ],
)
def test_an_engine_that_breaks_the_protocol_never_reaches_loadgen(
    scenario: str, act: Callable[[Sink, int], Any], message: str | None, tmp_path: Path
) -> None:
    if message is None:
        assert run_engine(Rogue(act), plan_of(scenario), tmp_path).samples == 8
        return
    with pytest.raises(BrokeError, match=message):
        run_engine(Rogue(act), plan_of(scenario), tmp_path)


def test_an_error_inside_submit_ends_the_run(tmp_path: Path) -> None:
    class Broken(Idle):
        def submit(self, requests: Any, limits: Any, streaming: bool, sink: Sink) -> None:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_engine(Broken(), plan_of(), tmp_path)


def test_child_is_out_of_ctrl_c_s_reach_and_dies_with_its_parent(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from loadgen_support import *; "
        "run_engine(Idle(), plan_of(), Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    path = f"{PACKAGES}{os.pathsep}{Path(__file__).parent}"
    parent = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL)
    try:
        watched = psutil.Process(parent.pid)
        asyncio.run(until(lambda: watched.children() and (tmp_path / "out" / logs.DETAIL).exists()))
        child = watched.children()[0]
        assert os.getpgid(child.pid) != os.getpgid(parent.pid)
    finally:
        parent.kill()
        parent.wait()
    assert psutil.wait_procs([child], timeout=5)[1] == []
