"""Members on hosts of their own, one of which is harmed at a random moment of a run, again and again.

A run of LoadGen with the fake engine on three network namespaces. What must hold each time: nothing hangs; a
performance run ends with code 4 in under ten seconds and names member, host and GPU; an accuracy run is
completed by the others, each sample answered once and with its own answer; no process is left on any host.

Usage, as root, with PYTHONPATH=python:python/tests/unit: chaos_members.py COUNT [SEED]
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import namespaces
import psutil
from loadgen_support import Prompts, plan_of, run_plan

from mlperf_llama import rules
from mlperf_llama.engine.replicas.head import ReplicaEngine
from mlperf_llama.engine.replicas.launch_processes import ProcessLauncher
from mlperf_llama.engine.replicas.protocol import Listen, MemberSpec
from mlperf_llama.engine.replicas.router import TokenRouter
from mlperf_llama.engine.replicas.settings import MemberSettings
from mlperf_llama.errors import EXIT_BROKE, BrokeError
from mlperf_llama.loadgen import accuracy_log, logs
from mlperf_llama.loadgen.plan import Plan

# Members answer so that a run takes two to three seconds.
SCRIPT: dict[str, object] = {"output_tokens": 20, "ttft_ms": 20, "tpot_ms": 5, "samples_per_s": 80}
QPS, SAMPLES, RUN_S = 200.0, 640, 3.0
# The fake engine echoes a prompt from this token on.
ECHO_FROM = 27
ENDS_WITHIN_S = 10.0
SCENARIOS = (rules.OFFLINE, rules.SERVER, rules.INTERACTIVE, rules.SINGLE_STREAM)


@dataclass(frozen=True)
class Trial:
    harm: str
    member: int
    scenario: str
    mode: str
    after_s: float


def trial_of(draw: random.Random) -> Trial:
    scenario = draw.choice(SCENARIOS)
    mode = draw.choice(("performance", "accuracy"))
    return Trial(draw.choice(tuple(HARMS)), draw.randrange(3), scenario, mode, draw.uniform(0, RUN_S))


def _worker(hosts: namespaces.Hosts, name: str) -> psutil.Process:
    processes = (psutil.Process(pid) for pid in hosts.processes(name))
    return next(process for process in processes if "worker" in process.cmdline())


def kill_worker(hosts: namespaces.Hosts, name: str) -> None:
    _worker(hosts, name).send_signal(signal.SIGKILL)


def stop_worker(hosts: namespaces.Hosts, name: str) -> None:
    _worker(hosts, name).send_signal(signal.SIGSTOP)


def kill_all(hosts: namespaces.Hosts, name: str) -> None:
    for pid in hosts.processes(name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


HARMS = {
    "SIGKILL of the worker": kill_worker,
    "SIGSTOP of the worker": stop_worker,
    "SIGKILL of all on the host": kill_all,
    "link cut": namespaces.Hosts.cut,
}


def engine_on(hosts: namespaces.Hosts, script: dict[str, object]) -> ReplicaEngine:
    """A member on each host, started there as ssh would."""

    def way(host: str, words: Sequence[str]) -> list[str]:
        return [*hosts.enter(host), "MLPERF_ENV_FILE=/dev/null", *words]

    specs = [MemberSpec(index, name, str(index)) for index, name in enumerate(hosts.names)]
    settings = MemberSettings("fake", script)
    listen = Listen("0.0.0.0", hosts.head)
    return ReplicaEngine(specs, settings, TokenRouter(), ProcessLauncher(way), listen)


def plan_for(trial: Trial) -> Plan:
    speeds = {"duration_s": RUN_S, "target_qps": QPS, "expected_latency_ms": 125.0}
    samples = 24 if trial.scenario == rules.SINGLE_STREAM else SAMPLES
    return plan_of(trial.scenario, trial.mode, samples=samples, **speeds)


def check_answers(folder: Path, count: int) -> None:
    """Each sample once, with its own answer."""
    responses = accuracy_log.read(folder / logs.ACCURACY)
    assert sorted(response.index for response in responses) == list(range(count))
    prompts = Prompts(count)
    for response in responses:
        assert response.tokens[0] == prompts.prompt(response.index)[ECHO_FROM], response.index


async def harmed(trial: Trial, hosts: namespaces.Hosts, folder: Path) -> str:
    """One trial; what became of it. AssertionError where it is not what must be."""
    engine = engine_on(hosts, SCRIPT)
    name = MemberSpec(trial.member, hosts.names[trial.member], str(trial.member)).name
    plan = plan_for(trial)
    try:
        await asyncio.wait_for(engine.start(lambda text: None), 60)
        await engine.begin_run(redispatch=trial.mode == "accuracy")
        run = asyncio.create_task(run_plan(engine, plan, folder))
        await asyncio.sleep(trial.after_s)
        await asyncio.to_thread(HARMS[trial.harm], hosts, hosts.names[trial.member])
        began = time.monotonic()
        try:
            result = await asyncio.wait_for(run, 60)
        except BrokeError as error:
            took = time.monotonic() - began
            assert trial.mode == "performance", error
            assert error.exit_code == EXIT_BROKE and name in str(error), error
            assert took < ENDS_WITHIN_S, f"{took:.1f} s"
            return "ended"
        assert result.samples == plan.expected_queries or trial.scenario == rules.SINGLE_STREAM
        if trial.mode == "accuracy":
            check_answers(folder, plan.sample_count)
        return "completed" if engine.take_losses() else "was over before"
    finally:
        began = time.monotonic()
        await asyncio.wait_for(engine.close(), 20)
        assert time.monotonic() - began < ENDS_WITHIN_S, "closing took long"
        assert namespaces.left(hosts) == {}


def run_trial(trial: Trial) -> str:
    with namespaces.hosts(3) as hosts, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(harmed(trial, hosts, Path(folder) / "out"))


def main(count: int, seed: int) -> int:
    draw, outcomes, failures = random.Random(seed), Counter[str](), 0
    for number in range(count):
        trial = trial_of(draw)
        began = time.monotonic()
        try:
            outcome = run_trial(trial)
        except Exception as error:
            failures += 1
            outcome = f"FAILED: {type(error).__name__}: {error}"
        outcomes[f"{trial.mode}, {trial.harm}: {outcome}"] += 1
        print(f"{number} {time.monotonic() - began:.1f} s {trial}: {outcome}", flush=True)
    for outcome, times in sorted(outcomes.items()):
        print(f"{times:4} {outcome}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
