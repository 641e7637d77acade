"""Members on hosts of their own: network namespaces, each behind a cable, reached by real TCP."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chaos_members
import namespaces
import psutil
import pytest
from chaos_members import HARMS, Trial, check_answers
from loadgen_support import COMBINATIONS
from replica_support import SCRIPT, run_every_mode

from mlperf_llama import rules
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Hosts, Provenance

REASON = namespaces.why_not()
pytestmark = [
    pytest.mark.slow,
    # The shipped command makes its data and tokenises it first.
    pytest.mark.timeout(900),
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def hosts() -> Iterator[namespaces.Hosts]:
    with namespaces.hosts(3) as made:
        yield made


@pytest.mark.parametrize(("category", "scenario"), COMBINATIONS)
def test_every_scenario_and_mode(
    category: str, scenario: str, hosts: namespaces.Hosts, tmp_path: Path
) -> None:
    async def body() -> None:
        engine = chaos_members.engine_on(hosts, SCRIPT)
        try:
            await engine.start(lambda text: None)
            await run_every_mode(engine, category, scenario, tmp_path)
            await engine.refresh_counters()
            assert all(member.counters["requests"] > 0 for member in engine.members.values())
        finally:
            await engine.close()
        assert namespaces.left(hosts) == {}

    asyncio.run(body())
    check_answers(tmp_path / "accuracy", 24)


@pytest.mark.parametrize("scenario", [rules.OFFLINE, rules.SERVER])
@pytest.mark.parametrize("mode", ["performance", "accuracy"])
@pytest.mark.parametrize("harm", HARMS)
def test_a_harmed_member_ends_the_run_or_is_made_up_for(harm: str, mode: str, scenario: str) -> None:
    outcome = chaos_members.run_trial(Trial(harm, 1, scenario, mode, 0.7))
    assert outcome == ("ended" if mode == "performance" else "completed")


def test_a_member_that_is_cut_off_ends_by_itself(hosts: namespaces.Hosts) -> None:
    """Also where nobody can tell it to: its head's words stay away."""

    async def body() -> None:
        engine = chaos_members.engine_on(hosts, SCRIPT)
        try:
            await engine.start(lambda text: None)
            hosts.cut(hosts.names[2])
            began = time.monotonic()
            while hosts.processes(hosts.names[2]):
                assert time.monotonic() - began < 90
                await asyncio.sleep(0.2)
        finally:
            await engine.close()

    asyncio.run(body())


def command(*words: str) -> list[str]:
    fixed = ("--engine=fake", "--dataset-source=synthetic", "--model=stand-in", "--samples=24")
    return [str(ROOT / "entrypoint.sh"), "run", *fixed, *words]


@pytest.fixture
def environment(hosts: namespaces.Hosts, tmp_path: Path) -> dict[str, str]:
    """As a user has it, with a stand-in for ssh first on PATH."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    hosts.ssh(stubs)
    return {
        **os.environ,
        "PATH": f"{stubs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "python"),
        "MLPERF_ENV_FILE": "/dev/null",
        "MLPERF_TARGET": "cpu",
        "MLPERF_HOSTS": ",".join(hosts.names),
        "MLPERF_RESULTS_DIR": str(tmp_path / "results"),
    }


def test_the_shipped_command_with_hosts(
    hosts: namespaces.Hosts, environment: dict[str, str], tmp_path: Path
) -> None:
    ran = subprocess.run(
        command(f"--head-address={hosts.head}"), env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    run = RunFolder.open(Path(ran.stdout.strip()))
    assert list(run.read(Hosts).hosts) == hosts.names
    members = run.read(Provenance).members
    assert members is not None and [member.index for member in members] == [0, 1, 2]
    assert namespaces.left(hosts) == {}


def test_members_that_others_start_join(
    hosts: namespaces.Hosts, environment: dict[str, str], tmp_path: Path
) -> None:
    """Started before their head is, with the token in a file."""
    token = tmp_path / "token"
    token.write_text("a-token-of-this-test\n")
    environment |= {"REPLICAS_TOKEN_FILE": str(token), "MLPERF_HOSTS": "join", "MLPERF_GPUS": "3"}
    address = f"{hosts.head}:4711"
    verb = [sys.executable, "-m", "mlperf_llama", "worker", "--head", address]
    workers = [
        subprocess.Popen([*hosts.enter(name), *verb], env=environment, stderr=subprocess.PIPE, text=True)
        for name in hosts.names
    ]
    ran = subprocess.run(
        command(f"--head-address={address}"), env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert [worker.wait(20) for worker in workers] == [0, 0, 0]
    members = RunFolder.open(Path(ran.stdout.strip())).read(Provenance).members
    assert members is not None and len(members) == 3


def test_a_dead_host_ends_the_shipped_command_with_code_4(
    hosts: namespaces.Hosts, environment: dict[str, str], tmp_path: Path
) -> None:
    words = ("--mode=performance", f"--head-address={hosts.head}", "--scenario=Server")
    slow = ("--duration-s=60", "--target-qps=20", '--fake={"ttft_ms": 5}')
    process = subprocess.Popen(
        command(*words, *slow), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    events = tmp_path / "results" / "latest" / "events.jsonl"
    deadline = time.monotonic() + 600
    while not (events.is_file() and any(_in_run(line) for line in events.read_text().splitlines())):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    began = time.monotonic()
    hosts.cut(hosts.names[1])
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4
    # Seven of them to notice and to end; the rest is the report.
    assert time.monotonic() - began < 20
    assert f"member 1 on {hosts.names[1]}, GPU 0: gave no sign for 5 s" in errors
    assert not [p for p in psutil.Process().children(recursive=True) if "supervisor" in " ".join(p.cmdline())]
    assert namespaces.left(hosts) == {}


def _in_run(line: str) -> bool:
    event = json.loads(line)
    return bool(event.get("stage") == "Server performance" and event.get("done"))


def test_a_host_that_cannot_be_reached_is_named(hosts: namespaces.Hosts, environment: dict[str, str]) -> None:
    environment["MLPERF_HOSTS"] += ",no-such-host"
    ran = subprocess.run(command(), env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 4
    assert "no-such-host: expected it to say which GPUs it has, it ended with code" in ran.stderr
    assert namespaces.left(hosts) == {}
