"""Hand-made run folders for the tests of report, compare and health."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from run_folders import write_json

from mlperf_llama import config, rules
from mlperf_llama.records.run_folder import RunFolder

START = datetime(2026, 11, 23, 12, 15, tzinfo=UTC)


def write_events(path: Path, rows: list[tuple[float, dict[str, Any]]]) -> None:
    """`rows`: seconds after START and the event's fields."""
    lines = [json.dumps({"time": (START + timedelta(seconds=s)).isoformat(), **e}) for s, e in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


@contextmanager
def edited(run: RunFolder, name: str) -> Iterator[dict[str, Any]]:
    """A record's JSON to change in place; written again where the block ends."""
    data = json.loads(run.file(name).read_text(encoding="utf-8"))
    yield data
    write_json(run, name, data)


def targets(met: bool | None) -> dict[str, Any]:
    """The datacenter category's targets, as the scorer records them."""
    reference, (low, high) = rules.REFERENCE_SCORES[rules.DATACENTER], rules.GEN_LEN_RANGE
    bounds = {key: (reference[key] * rules.ACCURACY_TIER, None) for key in rules.ROUGE_KEYS}
    bounds["gen_len"] = (reference["gen_len"] * low, reference["gen_len"] * high)
    bounds["gen_num"] = (reference["gen_num"], reference["gen_num"])
    return {key: {"low": least, "high": most, "met": met} for key, (least, most) in bounds.items()}


def served(source: str, eligible: bool, reason: str = "", **more: Any) -> dict[str, Any]:
    attempts = [
        {"rung": "mlcommons", "outcome": "failed", "reason": "needs CF_ACCESS_CLIENT_ID", "seconds": 0.4},
        {"rung": source, "outcome": "served", "reason": "", "seconds": 12.5},
    ]
    facts = {"source": source, "path": f"cache/{source}", "sha256": "ab" * 32, "eligible": eligible}
    return {**facts, "reason": reason, "attempts": attempts, **more}


def detail_log(folder: Path, values: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for key, value in values.items():
        entry = {"key": key, "value": value, "metadata": {"is_error": False, "is_warning": False}}
        lines.append(":::MLLOG " + json.dumps(entry) + "\n")
    (folder / "mlperf_log_detail.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "mlperf_log_summary.txt").write_text("Result is : VALID\n", encoding="utf-8")


def _folder(root: Path, name: str, **settings: str) -> RunFolder:
    path = root / name
    path.mkdir(parents=True)
    run = RunFolder(path)
    write_json(run, "config.json", config.load(settings, {}).to_json())
    return run


def standin(root: Path, name: str = "20261123T121500Z-offline") -> RunFolder:
    """A complete run on the stand-in and synthetic data, on a CPU."""
    run = _folder(root, name, SAMPLES="24", DTYPE="bfloat16")
    cpu = {"model": "AMD EPYC", "sockets": 1, "cores": 2, "threads": 2}
    system = {
        "cpu": cpu,
        "memory": {"total_gib": 23.5},
        "gpus": [],
        "os": {"name": "Debian", "kernel": "6.1"},
    }
    write_json(
        run,
        "system.json",
        {**system, "git": {"commit": "16964e0", "dirty": True}, "packages": {"torch": "2.13.0+cpu"}},
    )
    write_json(
        run,
        "provenance.json",
        {
            "round": "v6.1",
            "loadgen_version": "6.0.17",
            "samples": 24,
            "duration_s": 10.0,
            "shortened": True,
            "dataset": served("synthetic", False, "synthetic data is never eligible", rows=24),
            "model": served("stand-in", False, "SmolLM2-135M-Instruct stands in for Llama-3.1-8B"),
        },
    )
    performance = {
        "samples_per_second": 1.87,
        "tokens_per_second": 231.4,
        "total_time_seconds": 12.8,
        "samples_processed": 24,
        "loadgen_result": "VALID",
        "ttft_p99_ms": None,
        "tpot_p99_ms": None,
        "latency_p90_ms": None,
    }
    accuracy = {
        "rouge1": 21.0412,
        "rouge2": 4.9011,
        "rougeL": 14.2205,
        "rougeLsum": 18.3307,
        "gen_len": 14210,
        "gen_num": 24,
        "targets": targets(None),
        "passed": None,
        "word_overlap": {"label": "word overlap: not ROUGE", "unigram_f1": 60.0921},
    }
    engine = {
        "name": "vllm",
        "version": "0.27.1",
        "load_s": 31.2,
        "import_s": 3.4,
        "first_query_s": 41.5,
        "settings": {"dtype": "bfloat16", "max_num_seqs": 64},
    }
    write_json(
        run,
        "results.json",
        {
            "status": "complete",
            "started": "2026-11-23T12:15:00+00:00",
            "finished": "2026-11-23T12:17:00+00:00",
            "round": "v6.1",
            "category": "datacenter",
            "engine": engine,
            "scenarios": {"Offline": {"performance": performance, "accuracy": accuracy}},
        },
    )
    check = {"name": "model", "passed": False, "detail": "stand-in", "fix": "set HF_TOKEN"}
    write_json(run, "verdict.json", {"submittable": False, "checks": [check]})
    rate = [1.2, 1.7, 1.9, 1.8, 1.9, 1.6]
    rows = [
        (
            10 + 2 * n,
            {
                "stage": "Offline performance",
                "done": 4 * n,
                "total": 24,
                "unit": "samples",
                "samples_per_s": r,
                "tokens_per_s": r * 124,
            },
        )
        for n, r in enumerate(rate)
    ]
    write_events(run.file("events.jsonl"), [(0, {"stage": "engine", "message": "loading"}), *rows])
    return run


PERCENTILES = ("50.00", "90.00", "95.00", "97.00", "99.00", "99.90")
TTFT_MS, TPOT_MS = (224, 809, 1143, 1418, 1911, 2150), (24, 25, 25, 25, 25, 27)
LOGGED: dict[str, Any] = {"result_validity": "VALID"}
for percentile, ttft_ms, tpot_ms in zip(PERCENTILES, TTFT_MS, TPOT_MS, strict=True):
    LOGGED[f"result_first_token_{percentile}_percentile_latency_ns"] = ttft_ms * 10**6
    LOGGED[f"result_time_per_output_token_{percentile}_percentile_ns"] = tpot_ms * 10**6


def h100(root: Path, name: str = "20261123T130000Z-offline-server", submittable: bool = True) -> RunFolder:
    """A full eligible run on one H100: Offline and Server."""
    run = _folder(root, name, SCENARIO="Offline,Server", TARGET_QPS="47", QUANTIZATION="fp8")
    gpu = {
        "index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "memory_gib": 79.65,
        "driver": "580.82",
        "cuda": "13.0",
        "power_limit_w": 700.0,
    }
    cpu = {"model": "INTEL XEON PLATINUM 8480+", "sockets": 2, "cores": 112, "threads": 224}
    system = {
        "cpu": cpu,
        "memory": {"total_gib": 2015.6},
        "gpus": [gpu],
        "os": {"name": "Debian", "kernel": "6.1"},
    }
    write_json(
        run,
        "system.json",
        {**system, "git": {"commit": "16964e0", "dirty": False}, "packages": {"vllm": "0.26.0"}},
    )
    write_json(
        run,
        "provenance.json",
        {
            "round": "v6.1",
            "loadgen_version": "6.0.17",
            "samples": 13368,
            "duration_s": 600.0,
            "shortened": False,
            "dataset": served("huggingface", True, rows=13368),
            "model": served("huggingface", True, revision="be673f32"),
        },
    )
    offline = {
        "samples_per_second": 57.03,
        "tokens_per_second": 7263.1,
        "total_time_seconds": 702.1,
        "samples_processed": 40104,
        "loadgen_result": "VALID",
        "ttft_p99_ms": None,
        "tpot_p99_ms": None,
        "latency_p90_ms": None,
        "counters": {"preemptions": 0},
    }
    server = {
        **offline,
        "samples_per_second": 46.61,
        "tokens_per_second": 5941.0,
        "ttft_p99_ms": 1911.2,
        "tpot_p99_ms": 25.1,
    }
    accuracy = {
        "rouge1": 38.7401,
        "rouge2": 15.8922,
        "rougeL": 24.4610,
        "rougeLsum": 35.7711,
        "gen_len": 8155012,
        "gen_num": 13368,
        "targets": targets(True),
        "passed": True,
    }
    settings = {
        "quantization": "fp8",
        "kv_cache_dtype": "fp8",
        "max_num_seqs": 512,
        "tensor_parallel_size": 1,
    }
    write_json(
        run,
        "results.json",
        {
            "status": "complete",
            "started": "2026-11-23T13:00:00+00:00",
            "finished": "2026-11-23T13:48:00+00:00",
            "round": "v6.1",
            "category": "datacenter",
            "engine": {"name": "vllm", "version": "0.26.0", "load_s": 64.0, "settings": settings},
            "scenarios": {
                "Offline": {"performance": offline, "accuracy": accuracy},
                "Server": {"performance": server, "accuracy": accuracy},
            },
        },
    )
    checks = [{"name": "Offline: LoadGen says VALID", "passed": True, "detail": "VALID", "fix": ""}]
    if not submittable:
        checks.append(
            {"name": "Server: TEST06", "passed": False, "detail": "not run", "fix": "add MODE=compliance"}
        )
    write_json(run, "verdict.json", {"submittable": submittable, "checks": checks})
    rows = []
    for n in range(140):
        rate = 57 + 3 * ((n * 7919) % 13 - 6) / 6 if n > 2 else 20 * n
        rows.append(
            (
                5.0 * n,
                {
                    "stage": "Offline performance",
                    "done": int(285 * n),
                    "total": 40104,
                    "unit": "samples",
                    "samples_per_s": rate,
                    "tokens_per_s": rate * 127.4,
                    "gpu": [{"index": 0, "power_w": 640 + (n * 31) % 50, "temperature_c": 61}],
                },
            )
        )
    write_events(run.file("events.jsonl"), rows)
    detail_log(run.log_dir("Server", "performance"), LOGGED)
    return run


def interrupted(root: Path, name: str = "20261123T140000Z-offline") -> RunFolder:
    """Stopped while the weights loaded: no verdict, no provenance of a dataset, a cut last event."""
    run = _folder(root, name)
    write_json(
        run,
        "results.json",
        {"status": "interrupted", "started": "2026-11-23T14:00:00+00:00", "scenarios": {}},
    )
    write_events(run.file("events.jsonl"), [(0, {"stage": "engine", "message": "loading shard 2 of 4"})])
    with run.file("events.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"time": "2026-11-23T14:')
    return run
