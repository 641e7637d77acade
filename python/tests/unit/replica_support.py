"""Members of replicas for tests: real worker processes over loopback, and what may befall them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from loadgen_support import plan_of, run_plan

from mlperf_llama import rules
from mlperf_llama.engine.fake import FakeEngine
from mlperf_llama.engine.replicas.head import ReplicaEngine
from mlperf_llama.engine.replicas.protocol import (
    HeadAddress,
    MemberSpec,
    worker_arguments,
    worker_environment,
)
from mlperf_llama.engine.replicas.router import TokenRouter
from mlperf_llama.engine.replicas.settings import MemberSettings
from mlperf_llama.loadgen import logs
from mlperf_llama.machine.processes import PACKAGE_FOLDER

SCRIPT: dict[str, object] = {"output_tokens": [2, 40], "ttft_ms": 2, "tpot_ms": 0.1, "concurrency": 4}
SLOW: dict[str, object] = {"output_tokens": 20, "ttft_ms": 20, "tpot_ms": 10, "concurrency": 4}


class Workers:
    """A launcher whose processes a test can reach."""

    def __init__(self, absent: Sequence[int] = ()) -> None:
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self.head: HeadAddress | None = None
        self._absent = absent
        self._output = tempfile.TemporaryFile()  # noqa: SIM115

    async def start(self, members: Sequence[MemberSpec], head: HeadAddress) -> None:
        self.head = head
        for member in members:
            if member.index not in self._absent:
                self.processes[member.index] = self.worker(member, head)

    def worker(self, member: MemberSpec, head: HeadAddress) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "mlperf_llama", *worker_arguments(member, head)],
            env={**os.environ, "PYTHONPATH": str(PACKAGE_FOLDER), "MLPERF_ENV_FILE": "/dev/null"}
            | worker_environment(member, head),
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            start_new_session=True,
        )

    def failures(self) -> Mapping[int, str]:
        codes = {index: process.poll() for index, process in self.processes.items()}
        return {index: f"ended with code {code}" for index, code in codes.items() if code is not None}

    def printed(self) -> str:
        self._output.seek(0)
        return self._output.read().decode()

    async def stop(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def specs(count: int) -> list[MemberSpec]:
    return [MemberSpec(index, gpu=str(index)) for index in range(count)]


def fake_settings(script: Mapping[str, object]) -> MemberSettings:
    return MemberSettings("fake", dict(script))


def replicas(
    count: int,
    script: Mapping[str, object],
    launcher: Workers | None = None,
    settings: MemberSettings | None = None,
) -> ReplicaEngine:
    FakeEngine(script)
    settings = settings or fake_settings(script)
    return ReplicaEngine(specs(count), settings, TokenRouter(), launcher or Workers())


@asynccontextmanager
async def started(
    count: int,
    script: Mapping[str, object],
    launcher: Workers | None = None,
    settings: MemberSettings | None = None,
) -> AsyncIterator[ReplicaEngine]:
    engine = replicas(count, script, launcher, settings)
    try:
        await asyncio.wait_for(engine.start(lambda text: None), 60)
        yield engine
    finally:
        await engine.close()


async def run_every_mode(engine: ReplicaEngine, category: str, scenario: str, folder: Path) -> None:
    """Each mode of a scenario with 24 samples; `folder` then has the logs of each."""
    for mode in rules.MODES:
        await engine.begin_run(redispatch=mode == "accuracy")
        plan = plan_of(scenario, mode, category=category, samples=24)
        result = await run_plan(engine, plan, folder / mode)
        assert result.errors == logs.read_detail(folder / mode).errors == ()
        assert result.samples == plan.expected_queries
    assert logs.read_detail(folder / "performance").validity == "VALID"
