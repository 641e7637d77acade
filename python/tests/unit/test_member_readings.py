"""What a run shows of each member: its GPUs as its own host reads them, what it answered, what it holds."""

from __future__ import annotations

import asyncio
import io
import json
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from engine_contract import Collector, requests
from loadgen_support import LIMITS
from replica_support import SCRIPT, Workers, fake_settings
from rich.text import Text

from mlperf_llama.bench import members
from mlperf_llama.engine.replicas.head import ReplicaEngine
from mlperf_llama.engine.replicas.protocol import MemberSpec
from mlperf_llama.engine.replicas.router import TokenRouter
from mlperf_llama.machine import energy
from mlperf_llama.machine.processes import PACKAGE_FOLDER
from mlperf_llama.records.events import Events
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Energy, Event, MemberCounts
from mlperf_llama.terminal import screen
from mlperf_llama.terminal.member_lines import MemberLines
from mlperf_llama.terminal.stage import Stage

# An NVML of a host with two cards, whose power says which card of which host was read.
NVML = """
import time
from types import SimpleNamespace
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 2
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetHandleByUUID(uuid): return int(uuid[-1])
def nvmlDeviceGetName(handle): return "NVIDIA H100 80GB HBM3"
def nvmlDeviceGetUUID(handle): return f"GPU-{handle}"
def nvmlDeviceGetMemoryInfo(handle): return SimpleNamespace(total=80 << 30, used=70 << 30)
def nvmlDeviceGetPowerUsage(handle): return %d000 + 1000 * handle
def nvmlDeviceGetTotalEnergyConsumption(handle): return time.monotonic() * nvmlDeviceGetPowerUsage(handle)
"""


def host(folder: Path, watts: int) -> dict[str, str]:
    """The variables of a member on a host with that NVML."""
    folder.mkdir()
    (folder / "pynvml.py").write_text(NVML % watts)
    return {"PYTHONPATH": f"{folder}:{PACKAGE_FOLDER}"}


@pytest.mark.slow
def test_each_member_s_host_reads_its_own_gpu(tmp_path: Path) -> None:
    """The last two have one number on hosts of their own. What they draw is counted from one moment to
    another, as each host's clock has them."""
    here, there = host(tmp_path / "here", 100), host(tmp_path / "there", 500)
    cards = [("a", "0", here), ("a", "1", here), ("b", "1", there)]
    specs = [MemberSpec(n, name, gpu, environment=env) for n, (name, gpu, env) in enumerate(cards)]
    run = RunFolder(tmp_path)

    async def body() -> None:
        engine = ReplicaEngine(specs, fake_settings(SCRIPT), TokenRouter(), Workers())
        try:
            await asyncio.wait_for(engine.start(lambda text: None), 60)
            events = Events(run)
            events.follow(engine.gpu_readings, engine.member_counts)
            sink = Collector(60)
            engine.submit(requests(60), LIMITS, False, sink)
            await asyncio.wait_for(sink.ended, 30)
            async with asyncio.timeout(20):
                while len(engine.gpu_readings()) < 3:
                    await asyncio.sleep(0.05)
            events.emit("Offline performance", done=60, total=60)
            events.close()
            now = time.monotonic()
            session = cast("members.Session", SimpleNamespace(engine=engine))
            drawn = await members.energy(session, (now, now + 0.5))
            assert drawn is not None
            whole = energy.together(drawn)
            assert [part.joules for part in drawn] == pytest.approx([50.0, 50.5, 250.5], rel=0.02)
            assert [whole.joules, whole.mean_w, whole.seconds] == pytest.approx([351, 702, 0.5], rel=0.02)
            assert (whole.method, whole.gpus) == (energy.COUNTER, 3)
            assert await engine.energy(now - 1000, now - 999) == (None, None, None)
            assert await members.energy(session, (now - 1000, now - 999)) is None
        finally:
            await engine.close()

    asyncio.run(body())
    (event,) = map(json.loads, (tmp_path / "events.jsonl").read_text().splitlines())
    read = [(gpu["member"], gpu["index"], gpu["power_w"], gpu["memory_used_gib"]) for gpu in event["gpu"]]
    assert read == [(0, 0, 100.0, 70.0), (1, 1, 101.0, 70.0), (2, 1, 501.0, 70.0)]
    assert [member["name"] for member in event["members"]] == [spec.name for spec in specs]
    assert sum(member["answered"] for member in event["members"]) == 60
    assert all(member["under_way"] == 0 for member in event["members"])


def test_peaks_of_several_hosts_are_known_where_every_one_is() -> None:
    one = Energy(joules=50, seconds=0.5, mean_w=100, peak_w=120, gpus=1, method=energy.COUNTER, interval_s=1)
    other = replace(one, peak_w=510, method=energy.POWER, interval_s=2)
    whole = energy.together([one, other])
    assert (whole.peak_w, whole.method, whole.interval_s) == (630, energy.POWER, 2)
    assert energy.together([one, replace(one, peak_w=None)]).peak_w is None


def counts(*answered: int) -> list[MemberCounts]:
    return [
        MemberCounts(member=index, name=f"member {index} on a", answered=count, under_way=7)
        for index, count in enumerate(answered)
    ]


def event(**fields: object) -> Event:
    return {"time": "", "stage": "Offline performance", **fields}  # type: ignore[typeddict-item]


def test_a_line_for_each_member() -> None:
    stream, now = io.StringIO(), [100.0]
    lines = MemberLines(stream, lambda: now[0])
    lines(event(done=0))
    assert stream.getvalue() == ""
    lines(event(members=counts(10, 30)))
    now[0] += 5
    gpu = [{"index": 0, "member": 1, "power_w": 690.4, "sm_clock_mhz": 1530, "temperature_c": None}]
    lines(event(members=counts(60, 30), gpu=gpu))
    assert stream.getvalue().splitlines() == [
        "    member 0 on a: 7 under way",
        "    member 1 on a: 7 under way",
        "    member 0 on a: 10.0 samples/s, 7 under way",
        "    member 1 on a: 0.00 samples/s, 7 under way, 690 W, 1530 MHz",
    ]


def test_members_stand_in_an_event_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Event] = []
    now = [100.0]
    monkeypatch.setattr("mlperf_llama.records.events.time.monotonic", lambda: now[0])
    events = Events(None, seen.append)
    events.follow(list, lambda: counts(1))
    for after_s in (0, 4, 2, 1):
        now[0] += after_s
        events.emit("Server performance", done=1)
    events.emit("engine", message="no run")
    assert ["members" in event for event in seen] == [True, False, True, False, False]
    assert all("gpu" not in event for event in seen)


def test_the_screen_names_members() -> None:
    readings: list[dict[str, float | None]] = [{"index": 0, "member": n, "power_w": 300} for n in (0, 1)]
    stage = Stage("Server performance", 0.0, {"gpu": readings})
    drawn = screen.lines(stage, 1.0, 80, 24, screen.Frame(lambda share, width, colour: Text("")))
    labels = [line.plain[:9].strip() for line in drawn if "300 W" in line.plain]
    assert labels == ["member 0", "member 1"]
