"""What many engines behind one head cost, measured with fake ones beside the single engine in process.

    python benchmarks/replicas.py [--repeat 3] [--samples 1000000] [--record]

Server: the latency LoadGen saw at each rate (the engines answer at once), with one engine in process, one
member and 64 members over TCP. Offline: samples/s of each, every sample answered exactly once (LoadGen stops
at a second answer, and waits for each), and by how much the head's memory grew. What each of the processes
takes of a core, per query: their sum times the rate says whether the cores bind. Figures are medians, with
the range. --record appends the table to RESULTS.md; the load average stands in the table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

import psutil  # noqa: E402
from harness import COUNT, LIMITS, PROMPT_TOKENS, TOKENS, cpu_name, publish, spread  # noqa: E402

from mlperf_llama import rules  # noqa: E402
from mlperf_llama.engine import Engine, Tokens  # noqa: E402
from mlperf_llama.engine.fake import FakeEngine  # noqa: E402
from mlperf_llama.engine.replicas.head import ReplicaEngine  # noqa: E402
from mlperf_llama.engine.replicas.protocol import TOKEN_NAME, HeadAddress, MemberSpec  # noqa: E402
from mlperf_llama.engine.replicas.router import TokenRouter  # noqa: E402
from mlperf_llama.engine.replicas.settings import MemberSettings  # noqa: E402
from mlperf_llama.loadgen import logs  # noqa: E402
from mlperf_llama.loadgen.drive import drive  # noqa: E402
from mlperf_llama.loadgen.plan import Plan, make_plan  # noqa: E402
from mlperf_llama.records.events import Events  # noqa: E402

RATES = (2000.0, 5000.0, 12000.0)
SERVER_S = 5.0
OFFLINE_GOAL, SERVER_GOAL_MS = 100_000, 2.0
SCRIPT: dict[str, object] = {"answer": list(range(100, 100 + TOKENS))}
# One engine in process, one member, many.
ENGINES = {"in process": 0, "1 member": 1, "64 members": 64}


class Prompts:
    """As many prompts as the dataset has, each its own, of the real set's mean length."""

    count = COUNT
    lengths = [PROMPT_TOKENS] * COUNT

    def __init__(self) -> None:
        # Equal ids are one object, as in the prepared dataset.
        tokens = list(range(1000, 1000 + COUNT + PROMPT_TOKENS))
        self._prompts = [tokens[i : i + PROMPT_TOKENS] for i in range(COUNT)]

    def prompt(self, index: int) -> Tokens:
        return self._prompts[index]


class Farm:
    """A launcher: all members in one process (member_farm.py)."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self, members: Sequence[MemberSpec], head: HeadAddress) -> None:
        command = [
            sys.executable,
            str(HERE / "member_farm.py"),
            f"{head.host}:{head.port}",
            str(len(members)),
        ]
        self._process = subprocess.Popen(command, env={**os.environ, TOKEN_NAME: head.token})

    def failures(self) -> Mapping[int, str]:
        code = self._process.poll() if self._process else None
        return {} if code is None else {0: f"the farm ended with code {code}"}

    def cpu_s(self) -> float:
        """Seconds of a core so far."""
        times = psutil.Process(self._process.pid).cpu_times() if self._process else None
        return times.user + times.system if times else 0.0

    async def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()


@asynccontextmanager
async def engine_of(members: int) -> AsyncIterator[tuple[Engine, Farm]]:
    farm = Farm()
    if not members:
        yield FakeEngine(SCRIPT), farm
        return
    specs = [MemberSpec(index) for index in range(members)]
    engine = ReplicaEngine(specs, MemberSettings("fake", SCRIPT), TokenRouter(), farm)
    try:
        await engine.start(lambda text: None)
        yield engine, farm
    finally:
        await engine.close()


def server_plan(qps: float) -> Plan:
    return make_plan(
        "v6.1", rules.DATACENTER, rules.SERVER, "performance", COUNT, COUNT, SERVER_S, target_qps=qps
    )


def offline_plan(samples: int) -> Plan:
    passes = max(1, round(samples / COUNT))
    qps = (passes - 0.5) * COUNT / 1.1
    return make_plan("v6.1", rules.DATACENTER, rules.OFFLINE, "performance", COUNT, COUNT, 1.0, qps)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def cpu_s(farm: Farm) -> dict[str, float]:
    """Seconds of a core so far: this process, the members', and LoadGen's that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"head": time.process_time(), "members": farm.cpu_s(), "loadgen": ended.ru_utime + ended.ru_stime}


async def one_run(engine: Engine, farm: Farm, prompts: Prompts, plan: Plan, folder: Path) -> dict[str, float]:
    before, cpu = resident_mib(), cpu_s(farm)
    result = await drive(engine, prompts, LIMITS, plan, folder, Events(None))
    detail = logs.read_detail(folder)
    if detail.errors or result.samples != plan.expected_queries:
        raise SystemExit(f"{result.samples} of {plan.expected_queries} answered; LoadGen: {detail.errors}")
    taken = {f"{name}_us": 1e6 * (after - cpu[name]) / result.samples for name, after in cpu_s(farm).items()}
    if plan.scenario == rules.OFFLINE:
        return {
            **taken,
            "samples_per_s": detail.need_number("result_samples_per_second"),
            "samples": result.samples,
            "grown_mib": resident_mib() - before,
        }
    return {
        **taken,
        "p50_ms": detail.need_number("result_50.00_percentile_latency_ns") / 1e6,
        "p99_ms": detail.need_number("result_99.00_percentile_latency_ns") / 1e6,
    }


def measure(repeat: int, samples: int) -> dict[str, list[float]]:
    """Every figure of every repetition; the engines take turns."""
    figures: dict[str, list[float]] = {}
    prompts = Prompts()

    async def body(name: str, members: int, folder: Path) -> None:
        async with engine_of(members) as (engine, farm):
            plans = {f"{rate:,.0f} qps": server_plan(rate) for rate in RATES}
            for load, plan in {**plans, "offline": offline_plan(samples)}.items():
                run = await one_run(engine, farm, prompts, plan, folder / load.replace(" ", "-"))
                for key, value in run.items():
                    figures.setdefault(f"{name}, {load}, {key}", []).append(value)

    for _ in range(repeat):
        for name, members in ENGINES.items():
            with tempfile.TemporaryDirectory() as folder:
                asyncio.run(body(name, members, Path(folder)))
    return figures


def table(figures: dict[str, list[float]], load: float) -> str:
    def row(what: str, key: str, goal: str) -> str:
        cells = " | ".join(spread(figures[f"{name}, {key}"]) for name in ENGINES)
        return f"| {what} | {cells} | {goal} |"

    def cpu_rows(load: str) -> list[str]:
        names = {"head": "head", "members": "all members", "loadgen": "LoadGen"}
        return [
            row(f"... CPU of the {words}, us each", f"{load}, {name}_us", "") for name, words in names.items()
        ]

    command = shlex.join(["python", *sys.argv])
    rows = [
        f"### Members behind one head, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"{cpu_name()}, {os.cpu_count()} cores, load average {load:.2f} at the start. "
        f"Python {platform.python_version()}. `{command}`. Prompts of {PROMPT_TOKENS} tokens, answers of "
        f"{TOKENS}; LoadGen, the head and all members share the cores.",
        "",
        f"| | {' | '.join(ENGINES)} | goal |",
        f"| --- |{' --- |' * (len(ENGINES) + 1)}",
    ]
    for rate in RATES:
        for point in ("p50", "p99"):
            goal = f"under {SERVER_GOAL_MS:g}" if point == "p99" else ""
            rows.append(row(f"Server at {rate:,.0f} qps, {point} ms", f"{rate:,.0f} qps, {point}_ms", goal))
        rows += cpu_rows(f"{rate:,.0f} qps")
    count = statistics.median(figures["in process, offline, samples"])
    rows += [
        row(
            f"Offline, samples/s, {count:,.0f} samples", "offline, samples_per_s", f"{OFFLINE_GOAL:,} or more"
        ),
        row("... memory grown, MiB", "offline, grown_mib", ""),
        *cpu_rows("offline"),
    ]
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument(
        "--samples", type=int, default=1_000_000, help="of each Offline run (default a million)"
    )
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    text = table(measure(options.repeat, options.samples), load)
    publish(text, options.record)


if __name__ == "__main__":
    main()
