"""The report's sections from a run's requests, its GPUs' readings and its energy; and the page's size."""

from __future__ import annotations

import csv
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import report_samples as samples

from mlperf_llama import report
from mlperf_llama.records import requests
from mlperf_llama.records.requests import Requests
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.report import energy, published_bars
from mlperf_llama.report.published import Published

ROOT = Path(__file__).parents[3]
RECORDED = ROOT / "python/tests/recorded/fake-server"
FULL = 40_104
ENERGY = {
    "joules": 460_000.0,
    "seconds": 700.0,
    "mean_w": 657.1,
    "peak_w": 699.0,
    "gpus": 1,
    "method": "counter",
    "interval_s": 1.0,
}


def arrivals(count: int, seconds: float, streamed: bool) -> Requests:
    chance = np.random.default_rng(3)
    arrival = np.sort(chance.uniform(0, seconds, count)) if streamed else np.zeros(count)
    first = arrival + chance.exponential(0.3, count) + 0.05
    tokens = chance.integers(20, 129, count).astype(np.int32)
    end = first + tokens * chance.normal(0.04, 0.004, count)
    return Requests(
        sample=chance.integers(0, 13368, count).astype(np.int32),
        arrival_s=arrival,
        first_token_s=first if streamed else np.full(count, np.nan),
        end_s=end if streamed else chance.uniform(0, seconds, count),
        prompt_tokens=chance.integers(200, 2540, count).astype(np.int32),
        answer_tokens=tokens,
    )


def whole_run(root: Path, gpus: int = 1, count: int = FULL) -> RunFolder:
    """An H100 run with everything that a report draws."""
    run = samples.h100(root)
    for scenario in ("Offline", "Server"):
        path = requests.path_in(run.scenario(scenario))
        path.parent.mkdir(parents=True, exist_ok=True)
        requests.write(path, arrivals(count, 700, scenario == "Server"))
    with samples.edited(run, "results.json") as results:
        for one in results["scenarios"].values():
            one["performance"]["energy"] = ENERGY
    readings = {"sm_clock_mhz": 1700, "temperature_c": 61, "memory_used_gib": 70.5, "utilisation_percent": 98}
    rows = []
    for stage in ("Offline performance", "Server performance", "Offline accuracy"):
        for n in range(600):
            gpu = [{"index": g, "power_w": 600 + (n * 31 + g) % 90, **readings} for g in range(gpus)]
            rate = 57 + n % 7
            fields = {
                "stage": stage,
                "done": 60 * n,
                "total": count,
                "unit": "samples",
                "samples_per_s": rate,
            }
            rows.append((float(n), {**fields, "tokens_per_s": rate * 127.4, "gpu": gpu}))
    samples.write_events(run.file("events.jsonl"), rows)
    return run


def test_a_full_page_stays_under_400_kb(tmp_path: Path) -> None:
    run = whole_run(tmp_path, gpus=8)
    report.write(run)
    assert run.file("report.html").stat().st_size < 400_000


def test_the_requests_are_drawn_with_their_limits(tmp_path: Path) -> None:
    run = whole_run(tmp_path, count=1000)
    report.write(run)
    text, page = (run.file(f"report.{kind}").read_text(encoding="utf-8") for kind in ("md", "html"))
    latencies = text.split("## Latencies")[1].split("## Timelines")[0]
    assert re.search(r"Goodput of Server: 9\d\.\d\d% of 1 000 requests kept both limits", latencies)
    assert "Goodput of Offline" not in latencies
    for name in ("time to first token (TTFT)", "time per output token (TPOT)", "end-to-end latency"):
        assert f"Server: {name}, share of requests: in ms p50" in latencies
    assert ">limit 2000 ms<" in page and ">limit 100 ms<" in page
    assert "| latency, ms | p50 | p90 | p95 | p99 | p99.9 | longest | LoadGen's p99 |" in latencies
    assert latencies.count("worst requests") == 2 and "Server: prompt lengths" in latencies


def test_timelines_are_of_the_performance_runs_and_others_are_folded(tmp_path: Path) -> None:
    run = whole_run(tmp_path, count=1000)
    report.write(run)
    timelines = run.file("report.md").read_text(encoding="utf-8").split("## Timelines")[1].split("\n## ")[0]
    shown, folded = timelines.split("<details>")
    for name in ("power", "SM clock", "temperature", "memory in use", "utilisation"):
        assert f"Server: GPU {name} over time" in shown
    assert "Server: requests waiting and running over time" in shown and "TTFT over time" in shown
    assert "Offline accuracy: throughput" in folded and "accuracy" not in shown


def test_what_limited_each_run_is_said_from_its_readings(tmp_path: Path) -> None:
    run = whole_run(tmp_path, count=1000)
    report.write(run)
    answer = run.file("report.md").read_text(encoding="utf-8").split("## Latencies")[0]
    assert "What limited Offline: compute, by the roofline: the GPU was busy 98% of the time." in answer
    assert "What limited Server: TTFT, p99 1 911 of 2000 ms." in answer
    with samples.edited(run, "system.json") as system:
        system["gpus"][0]["max_sm_clock_mhz"], system["gpus"][0]["power_limit_w"] = 1980, 650
    report.write(run)
    answer = run.file("report.md").read_text(encoding="utf-8").split("## Latencies")[0]
    assert "What limited Offline: power: clock 1 700 of 1 980 MHz at 644 of 650 W." in answer
    assert "1 911 of 2000 ms; behind it power: clock" in answer


def test_energy_names_its_method_and_what_it_is_not(tmp_path: Path) -> None:
    run = whole_run(tmp_path, count=1000)
    with samples.edited(run, "config.json") as config:
        config["price_per_hour"] = 3.0
    report.write(run)
    text = run.file("report.md").read_text(encoding="utf-8").split("## Energy and cost")[1].split("\n## ")[0]
    # 460 kJ over 7263.1 tokens/s x 702.1 s and 40,104 samples.
    assert "| Offline | 0.090 | 11.5 | 657 | 699 | 460.0 kJ | 1 | 12 min |" in text
    assert "not MLPerf Power" in text and "NVML's energy counter, read every 1.0 s" in text
    assert "Offline: 0.115 per million answer tokens, at 3 per hour" in text


def test_the_csv_tells_of_requests_and_energy(tmp_path: Path) -> None:
    run = whole_run(tmp_path, count=1000)
    report.write(run)
    with run.file("results.csv").open(encoding="utf-8") as stream:
        offline, server = csv.DictReader(stream)
    assert offline["goodput_percent"] == offline["ttft_p50_ms"] == ""
    assert 99 < float(server["goodput_percent"]) <= 100
    assert 200 < float(server["ttft_p50_ms"]) < 350 and 30 < float(server["tpot_p50_ms"]) < 50
    assert float(offline["end_to_end_p99_ms"]) > 600_000
    assert offline["joules_per_token"] == "0.0902"


def test_the_cost_is_that_of_the_time_that_a_million_tokens_take() -> None:
    assert energy.cost_per_million(1_000_000 / 3600, 2.5) == pytest.approx(2.5)
    assert energy.cost_per_million(8421, 3.0) == pytest.approx(0.099, abs=0.001)


def test_a_broken_record_of_the_requests_leaves_a_gap(tmp_path: Path) -> None:
    run = whole_run(tmp_path, count=100)
    requests.path_in(run.scenario("Server")).write_bytes(b"PAR1")
    report.write(run)
    text = run.file("report.md").read_text(encoding="utf-8")
    assert "requests.parquet" in text.split("Missing records")[1].split("## Latencies")[0]
    assert "Server: time to first token by percentile in ms" in text, "LoadGen's own percentiles"


@pytest.mark.parametrize("strange", ["no request", "one request", "never", "all at once"])
def test_strange_requests_are_reported_without_a_fault(tmp_path: Path, strange: str) -> None:
    run = samples.h100(tmp_path)
    made = arrivals({"no request": 0, "one request": 1}.get(strange, 200), 10, streamed=True)
    if strange == "never":
        made.end_s[::2], made.first_token_s[::3], made.arrival_s[5] = np.inf, np.nan, -np.inf
    if strange == "all at once":
        made.arrival_s[:], made.first_token_s[:], made.end_s[:] = 0, 0, 0
    path = requests.path_in(run.scenario("Server"))
    requests.write(path, made)
    report.write(run)
    assert "Missing records" not in run.file("report.md").read_text(encoding="utf-8")


def published(device: str, rate: float) -> Published:
    fields = dict.fromkeys(Published.__dataclass_fields__)
    known = {"device": device, "samples_per_second": rate, "devices": 1, "division": "closed"}
    return Published(**{**fields, **known})  # type: ignore[arg-type]


def test_the_fastest_and_the_nearest_are_shown() -> None:
    every = [published(f"card {n}", 1000.0 / n) for n in range(1, 60)]
    shown = [one.device for one in published_bars.nearest(every, 50.0)]
    assert len(shown) == published_bars.MOST and shown[:2] == ["card 1", "card 20"]
    assert {"card 19", "card 21"} < set(shown)


def png_size(path: Path) -> tuple[int, ...]:
    """Width and height out of a PNG's header."""
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", header[16:])


def test_the_docs_show_a_picture_of_the_size_that_the_script_makes() -> None:
    script = (ROOT / "benchmarks/report_screenshot.py").read_text(encoding="utf-8")
    size = re.search(r"WIDTH, HEIGHT = (\d+), (\d+)", script)
    assert size and png_size(ROOT / "docs/report.png") == tuple(map(int, size.groups()))
    assert (ROOT / "docs/report.png").stat().st_size < 400_000
    assert "](docs/report.png)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_recorded_run_is_reported_with_the_sentence_of_its_outcome(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    shutil.copytree(RECORDED, run.path)
    report.write(run)
    text = run.file("report.md").read_text(encoding="utf-8")
    assert "Server INVALID: TTFT p99 4,321 ms, limit 2,000 (116% over)" in text
    assert "Goodput of Server: 85.30% of 1 000 requests kept both limits" in text
    assert "What limited" not in text, "a script decided its speed"
    assert "per million answer tokens, at 2.5 per hour" in text


def test_the_report_takes_a_price_of_its_own(tmp_path: Path) -> None:
    run = whole_run(tmp_path, count=100)
    report.write(run, price_per_hour=6.0)
    assert "Offline: 0.229 per million answer tokens, at 6 per hour" in run.file("report.md").read_text(
        encoding="utf-8"
    )
