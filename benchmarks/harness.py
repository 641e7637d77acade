"""What the harness costs, measured with an engine that answers at once.

    python benchmarks/harness.py [--round v6.1] [--repeat 3] [--record]

Offline: samples/s through LoadGen, the link and the engine protocol. Server: the latency
LoadGen saw, less what the engine took itself. Beside each the bare pipe (bare_pipe.py).
Figures are medians, with the range. --record appends the table to RESULTS.md; the machine
should be idle, so the load average stands in the table.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

from mlperf_llama import rules  # noqa: E402
from mlperf_llama.engine import Limits, Request, Sink, Tokens  # noqa: E402
from mlperf_llama.engine.fake import FakeEngine  # noqa: E402
from mlperf_llama.loadgen import logs  # noqa: E402
from mlperf_llama.loadgen.drive import drive  # noqa: E402
from mlperf_llama.loadgen.plan import Plan, make_plan  # noqa: E402
from mlperf_llama.loadgen.process import write_spec  # noqa: E402
from mlperf_llama.records.events import Events  # noqa: E402

TOKENS = 128
PROMPT_TOKENS = 895
LIMITS = Limits(TOKENS, 1, rules.EOS_IDS)
COUNT = rules.SAMPLE_COUNT[rules.DATACENTER]
PASSES = 8
SERVER_QPS, SERVER_S = 2000.0, 10.0
# What the project asks of the harness.
OFFLINE_GOAL, SERVER_GOAL_MS = 50_000, 2.0
Figures = dict[str, float]


class Prompts:
    """As many prompts as the dataset has, of the real set's mean length."""

    count = COUNT
    lengths = [PROMPT_TOKENS] * COUNT

    def __init__(self) -> None:
        self._prompt = list(range(PROMPT_TOKENS))

    def prompt(self, index: int) -> Tokens:
        return self._prompt


class Timed(FakeEngine):
    """The fake engine, noting how long each request was in it."""

    def __init__(self) -> None:
        super().__init__({"answer": list(range(100, 100 + TOKENS))})
        self.begun: dict[int, float] = {}
        self.seconds: list[float] = []

    def submit(self, requests: Sequence[Request], limits: Limits, streaming: bool, sink: Sink) -> None:
        now = time.perf_counter()
        self.begun.update((request.id, now) for request in requests)
        super().submit(requests, limits, streaming, Noting(self, sink))


class Noting:
    def __init__(self, engine: Timed, sink: Sink) -> None:
        self._engine, self.first_token, self.failed = engine, sink.first_token, sink.failed
        self._completed = sink.completed

    def completed(self, request_id: int, tokens: Tokens) -> None:
        self._engine.seconds.append(time.perf_counter() - self._engine.begun.pop(request_id))
        self._completed(request_id, tokens)


def plan_of(round: str, scenario: str) -> Plan:
    if scenario == rules.OFFLINE:
        duration, qps = 1.0, (PASSES - 0.5) * COUNT / 1.1
    else:
        duration, qps = SERVER_S, SERVER_QPS
    return make_plan(round, rules.DATACENTER, scenario, "performance", COUNT, COUNT, duration, qps)


def figures(folder: Path, scenario: str) -> Figures:
    detail = logs.read_detail(folder)
    if detail.errors:
        raise SystemExit(f"LoadGen reported errors: {detail.errors}")
    if scenario == rules.OFFLINE:
        return {"samples_per_s": detail.need_number("result_samples_per_second")}
    return {
        "p50_ms": detail.need_number("result_50.00_percentile_latency_ns") / 1e6,
        "p99_ms": detail.need_number("result_99.00_percentile_latency_ns") / 1e6,
    }


def through_harness(plan: Plan, folder: Path) -> Figures:
    """One run; Server figures also hold the engine's own time."""
    server = plan.scenario != rules.OFFLINE
    timed = Timed()
    engine = timed if server else FakeEngine({"answer": list(range(100, 100 + TOKENS))})
    asyncio.run(drive(engine, Prompts(), LIMITS, plan, folder, Events(None)))
    found = figures(folder, plan.scenario)
    if server:
        own = sorted(timed.seconds)
        found["engine_p50_ms"] = own[len(own) // 2] * 1e3
        found["engine_p99_ms"] = own[int(len(own) * 0.99)] * 1e3
        for point in ("p50", "p99"):
            found[f"added_{point}_ms"] = found[f"{point}_ms"] - found[f"engine_{point}_ms"]
    return found


def through_pipe(plan: Plan, folder: Path) -> Figures:
    spec = write_spec(plan, folder, None, None)
    subprocess.run([sys.executable, str(HERE / "bare_pipe.py"), spec.to_json()], check=True)
    return figures(folder, plan.scenario)


def measure(round: str, repeat: int) -> dict[str, list[float]]:
    """Every figure of every repetition; the two paths take turns."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeat):
            for scenario in (rules.OFFLINE, rules.SERVER):
                plan = plan_of(round, scenario)
                for name, path in (("harness", through_harness), ("pipe", through_pipe)):
                    out = Path(folder) / f"{scenario}-{name}-{number}"
                    for key, value in path(plan, out).items():
                        found.setdefault(f"{name}_{key}", []).append(value)
    return found


def spread(values: list[float]) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    digits = 0 if middle >= 100 else 2
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def table(found: dict[str, list[float]], round: str, load: float) -> str:
    def ratio(key: str) -> str:
        return f"{statistics.median(found['harness_' + key]) / statistics.median(found['pipe_' + key]):.2f}"

    machine = f"{cpu_name()}, {os.cpu_count()} cores, load average {load:.2f} at the start"
    version = rules.ROUNDS[round].loadgen_version
    command = shlex.join(["python", *sys.argv])
    rows = [
        f"### Harness, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"{machine}. Python {platform.python_version()}, LoadGen {version}. `{command}`",
        "",
        "| | harness | bare pipe | ratio | goal |",
        "| --- | --- | --- | --- | --- |",
        f"| Offline, samples/s, {PASSES * COUNT:,} samples of {TOKENS} tokens "
        f"| {spread(found['harness_samples_per_s'])} | {spread(found['pipe_samples_per_s'])} "
        f"| {ratio('samples_per_s')} | {OFFLINE_GOAL:,} or more |",
    ]
    for point, goal in (("p50", ""), ("p99", f"under {SERVER_GOAL_MS:g}")):
        rows += [
            f"| Server at {SERVER_QPS:,.0f} qps, {point} ms | {spread(found[f'harness_{point}_ms'])} "
            f"| {spread(found[f'pipe_{point}_ms'])} | {ratio(f'{point}_ms')} | |",
            f"| ... of it in the engine | {spread(found[f'harness_engine_{point}_ms'])} | | | |",
            f"| ... added by the harness | {spread(found[f'harness_added_{point}_ms'])} | | | {goal} |",
        ]
    return "\n".join(rows) + "\n"


def cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def publish(table: str, record: bool) -> None:
    """Print it; `record`: into RESULTS.md too."""
    print(table)
    if record:
        with (HERE / "RESULTS.md").open("a", encoding="utf-8") as stream:
            stream.write("\n" + table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--round", choices=rules.ROUNDS, default="v6.1")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    text = table(measure(options.round, options.repeat), options.round, load)
    publish(text, options.record)


if __name__ == "__main__":
    main()
