"""What a server as the engine costs, measured with one that answers at once (endpoint_server.py).

    python benchmarks/endpoint.py [--repeat 3] [--guidellm PATH] [--record]

Server: the latency that LoadGen saw at a rate, with the fake engine in process and through HTTP; the server
answers at once, so that the difference is what HTTP adds. Offline: samples/s, and the CPU time of this
process for each. One server sends the first token and the rest in two chunks (vLLM and SGLang are asked for
that), another each token in one of its own. --guidellm: the command of an installation of its own, which is
sent against the same servers; its CPU time is that of a long run less that of a short one. Figures are
medians, with the range. --record appends the table to RESULTS.md; the load average stands in the table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "python"))

from endpoint_server import TOKENS  # noqa: E402
from harness import COUNT, LIMITS, Prompts, cpu_name, publish, spread  # noqa: E402

from mlperf_llama import config, rules  # noqa: E402
from mlperf_llama.engine import Engine, Limits  # noqa: E402
from mlperf_llama.engine.endpoint import EndpointEngine  # noqa: E402
from mlperf_llama.engine.fake import FakeEngine  # noqa: E402
from mlperf_llama.loadgen import logs  # noqa: E402
from mlperf_llama.loadgen.drive import drive  # noqa: E402
from mlperf_llama.loadgen.plan import Plan, make_plan  # noqa: E402
from mlperf_llama.records.events import Events  # noqa: E402
from mlperf_llama.sources import model  # noqa: E402

QPS, SERVER_S = 200.0, 10.0
SAMPLES = 4000
# guidellm's long and short run, in requests at once.
LONG, SHORT, AT_ONCE = 1500, 100, 64
CHUNKS = (2, TOKENS)
Figures = dict[str, list[float]]


def plan_of(scenario: str) -> Plan:
    offline = scenario == rules.OFFLINE
    duration, qps = (1.0, SAMPLES / 1.1) if offline else (SERVER_S, QPS)
    count = min(COUNT, SAMPLES)
    return make_plan("v6.1", rules.DATACENTER, scenario, "performance", count, COUNT, duration, qps)


@contextmanager
def server(chunks: int) -> Iterator[str]:
    """Its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, str(HERE / "endpoint_server.py"), str(port), str(chunks)])
    try:
        for _ in range(100):
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def engine_of(address: str | None) -> Engine:
    if address is None:
        return FakeEngine({"answer": list(range(100, 100 + TOKENS))})
    return EndpointEngine([address], Limits(TOKENS, TOKENS, ()), rules.MODEL_SHAPE.vocabulary, seats=AT_ONCE)


def through(address: str | None, name: str, folder: Path, found: Figures) -> None:
    """Both scenarios against a server, or the engine in process."""

    async def body(scenario: str, out: Path) -> float:
        engine = engine_of(address)
        await engine.start(lambda text: None)
        began = time.process_time()
        await drive(engine, Prompts(), LIMITS, plan_of(scenario), out, Events(None))
        used = time.process_time() - began
        await engine.close()
        return used

    for scenario in (rules.OFFLINE, rules.SERVER):
        out = folder / scenario
        used = asyncio.run(body(scenario, out))
        detail = logs.read_detail(out)
        if scenario == rules.OFFLINE:
            rate = detail.need_number("result_samples_per_second")
            found.setdefault(f"{name} samples_per_s", []).append(rate)
            samples = logs.performance(out, scenario).samples_processed
            found.setdefault(f"{name} cpu_us", []).append(1e6 * used / samples)
        else:
            for point in ("50.00", "99.00"):
                value = detail.need_number(f"result_{point}_percentile_latency_ns") / 1e6
                found.setdefault(f"{name} p{point[:2]}_ms", []).append(value)


def guidellm(command: str, address: str, name: str, folder: Path, found: Figures) -> None:
    """A rate and the CPU time of a request, of all of its processes."""
    settings = config.load({"ENGINE": "fake"}, config.environment())
    processor = model.serve("fake", settings, config.environment()).path
    seconds: dict[int, float] = {}
    for requests in (SHORT, LONG):
        out = folder / f"guidellm-{requests}.json"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [
            *(
                command,
                "run",
                "--backend",
                f"kind=openai_http,target={address},request_format=/v1/completions",
            ),
            *("--profile", f"kind=concurrent,streams={AT_ONCE}"),
            *("--constraint", f"kind=max_requests,count={requests}"),
            *("--tokenizer", f"kind=huggingface_auto,model={processor}"),
            *("--data", f"kind=synthetic_text,prompt_tokens=895,output_tokens={TOKENS}"),
            *("--output", f"kind=json,path={out}", "--disable-console"),
        ]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds[requests] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        rate = json.loads(out.read_text())["benchmarks"][0]["metrics"]["requests_per_second"]
    found.setdefault(f"{name} samples_per_s", []).append(rate["successful"]["mean"])
    found.setdefault(f"{name} cpu_us", []).append(1e6 * (seconds[LONG] - seconds[SHORT]) / (LONG - SHORT))


def measure(repeat: int, command: str | None) -> Figures:
    found: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(repeat):
            through(None, "in process", Path(folder) / f"in-process-{number}", found)
            for chunks in CHUNKS:
                out = Path(folder) / f"{chunks}-{number}"
                with server(chunks) as address:
                    through(address, f"{chunks} chunks", out, found)
                    if command:
                        guidellm(command, address, f"guidellm, {chunks} chunks", out, found)
    return found


def table(found: Figures, load: float) -> str:
    names = list(dict.fromkeys(key.rpartition(" ")[0] for key in found))
    rows = {
        "Offline, samples/s": "samples_per_s",
        "... CPU of the client, us a sample": "cpu_us",
        f"Server at {QPS:g} qps, p50 ms": "p50_ms",
        f"Server at {QPS:g} qps, p99 ms": "p99_ms",
    }
    lines = [
        f"### A server as the engine, {datetime.now(UTC):%Y-%m-%d}",
        "",
        f"{cpu_name()}, {os.cpu_count()} cores, load average {load:.2f} at the start. Python "
        f"{platform.python_version()}. `{shlex.join(['python', *sys.argv])}`. The server is a process "
        f"beside, on the same cores; {AT_ONCE} requests at once and as many ready to follow.",
        "",
        f"| | {' | '.join(names)} |",
        f"| --- |{' ---: |' * len(names)}",
    ]
    for label, key in rows.items():
        cells = [spread(found[f"{name} {key}"]) if f"{name} {key}" in found else "" for name in names]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--guidellm", help="the guidellm command of an environment of its own")
    parser.add_argument("--record", action="store_true", help="append the table to RESULTS.md")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    publish(table(measure(options.repeat, options.guidellm), load), options.record)


if __name__ == "__main__":
    main()
