"""Builds whole run folders for tests: LoadGen's keys and values as real runs log them.

The values are those of eligible runs, which no test machine can make; each test then
breaks one thing. test_verdict_loadgen.py asks the same of logs that LoadGen itself wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlperf_llama import config, rules
from mlperf_llama.errors import BrokeError
from mlperf_llama.loadgen import logs
from mlperf_llama.records import codec, scales, seal
from mlperf_llama.records.files import digest
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.scales import Scales
from mlperf_llama.records.schema import SCHEMA_VERSION, Seal, SealedStage
from mlperf_llama.records.source import source_sha256
from mlperf_llama.verdict import test06

Json = dict[str, Any]
SETTINGS: Json = {
    "dtype": "bfloat16",
    "quantization": None,
    "load_format": "auto",
    "kv_cache_dtype": "auto",
    "max_model_len": 2668,
    "max_num_seqs": 1024,
    "max_num_batched_tokens": 24576,
    "enable_prefix_caching": False,
    "speculative_decoding": False,
    "tensor_parallel_size": 1,
}
SYSTEM: Json = {
    "machine": {"maker": "Dell Inc.", "product": "PowerEdge XE8640"},
    "cpu": {"model": "INTEL(R) XEON(R) GOLD 6448Y", "sockets": 2, "cores": 64, "max_clock_mhz": 4100},
    "memory": {"total_gib": 1007.5},
    "os": {"name": "Debian GNU/Linux 12 (bookworm)"},
    "storage": [{"name": "nvme0n1", "kind": "NVMe SSD", "size_gb": 1920.4}],
    "network": [{"name": "eno1", "speed_mbit_s": 10000}, {"name": "eno2", "speed_mbit_s": None}],
    "gpus": [
        {
            "name": "NVIDIA H100 80GB HBM3",
            "memory_gib": 79.65,
            "driver": "580.65.06",
            "cuda": "13.0",
            "max_sm_clock_mhz": 1980,
            "pcie_generation": 5,
            "pcie_width": 16,
            "nvlink_links": 18,
            "source": "nvml",
        }
    ],
    "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False, "from": "git"},
    "python": {"version": "3.11.2"},
    "packages": {"torch": "2.11.0", "vllm": "0.26.0"},
}
EOS = 128009
LOADGEN = "/environment/loadgen/mlperf_loadgen.so"
BEGAN = "2026-11-23T10:00:00+00:00"
# Tokens of an answer, as the rates below say and as `response` makes them.
MEAN_TOKENS = {rules.OFFLINE: 125.0, rules.SINGLE_STREAM: 5100 / 42}
PROMPT_TOKENS = 895


def detail_values(scenario: str, mode: str, category: str, round_name: str) -> Json:
    """The keys of a detail log that anything here reads, as LoadGen 6.0.17 writes them."""
    full, its_round = rules.SAMPLE_COUNT[category], rules.ROUNDS[round_name]
    single = scenario == rules.SINGLE_STREAM
    offline = scenario == rules.OFFLINE
    values: Json = {
        "loadgen_version": f"{its_round.loadgen_version} @ d6147c7eb7",
        "sut_name": "PySUT",
        "test_datetime": "2026-11-23T10:00:00Z",
        "qsl_reported_total_count": full,
        "qsl_reported_performance_count": full,
        "requested_use_token_latencies": True,
        "effective_scenario": rules.loadgen_scenario(scenario),
        "effective_test_mode": "AccuracyOnly" if mode == "accuracy" else "PerformanceOnly",
        "effective_samples_per_query": 2 * full if offline else 1,
        "effective_target_latency_ns": 0,
        "effective_min_duration_ms": 600000,
        "effective_min_query_count": full if single else 1 if offline else 100,
        "effective_qsl_rng_seed": its_round.qsl_rng_seed,
        "effective_sample_index_rng_seed": its_round.sample_index_rng_seed,
        "effective_schedule_rng_seed": its_round.schedule_rng_seed,
        "effective_accuracy_log_rng_seed": 0,
        "effective_accuracy_log_sampling_target": 0,
        "effective_performance_sample_count": full,
        "effective_accuracy_sample_count": full,
        "effective_sample_concatenate_permutation": True,
        "generated_query_count": 1 if offline else full if single else 2 * full,
        "generated_samples_per_query": 2 * full if offline else 1,
        "power_begin": "11-23-2026 10:00:00.000",
        "power_end": "11-23-2026 10:10:30.000",
        "num_errors": 0,
    }
    if mode == "compliance":
        values |= test06.AUDIT
    if mode == "performance":
        values |= performance_values(scenario, full)
    return values


def performance_values(scenario: str, full: int) -> Json:
    """What LoadGen adds at the end of a performance run."""
    values: Json = {
        "result_validity": "VALID",
        "result_min_duration_met": True,
        "result_min_queries_met": True,
        "early_stopping_met": True,
        "result_query_count": 1 if scenario == rules.OFFLINE else full,
        "result_max_latency_ns": 630_000_000_000,
        "result_90.00_percentile_latency_ns": 900_000_000,
        "result_99.00_percentile_latency_ns": 1_000_000_000,
    }
    if scenario == rules.OFFLINE:
        return values | {"result_samples_per_second": 42.4, "result_tokens_per_second": 5300.0}
    values |= {
        "result_first_token_99.00_percentile_latency_ns": 300_000_000,
        "result_time_per_output_token_99.00_percentile_ns": 20_000_000,
        "result_completed_tokens_per_second": 5100.0,
    }
    if scenario == rules.SINGLE_STREAM:
        return values | {"result_qps_with_loadgen_overhead": 42.0, "early_stopping_latency_ss": 910_000_000}
    return values | {"result_completed_samples_per_sec": 42.0, "result_query_count": 2 * full}


def write_detail(folder: Path, values: Json, errors: tuple[str, ...] = ()) -> None:
    """Write mlperf_log_detail.txt and its summary."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [_line(key, value) for key, value in values.items()]
    lines += [_line("error_runtime", text, True) for text in errors]
    (folder / "mlperf_log_detail.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "mlperf_log_summary.txt").write_text("No errors encountered during test.\n", encoding="utf-8")


def _line(key: str, value: object, error: bool = False) -> str:
    entry = {
        "key": key,
        "value": value,
        "time_ms": 0.5,
        "namespace": "mlperf::logging",
        "event_type": "POINT_IN_TIME",
        "metadata": {
            "is_error": error,
            "is_warning": False,
            "file": "loadgen.cc",
            "line_no": 1,
            "pid": 1,
            "tid": 1,
        },
    }
    return ":::MLLOG " + json.dumps(entry)


def hex_of(*tokens: int) -> str:
    return b"".join(t.to_bytes(4, "little") for t in tokens).hex().upper()


def response(index: int, tokens: tuple[int, ...] = (791, 220, EOS)) -> Json:
    return {"seq_id": index, "qsl_idx": index, "data": hex_of(*tokens), "token_count": len(tokens)}


def write_responses(path: Path, records: list[Json]) -> None:
    """Write an accuracy log in LoadGen's layout."""
    body = ",\n".join(json.dumps(r) for r in records)
    path.write_text(f"[\n{body}\n]\n", encoding="utf-8")


def accuracy_text(scores: Json, log: Path) -> str:
    return f"{scores}\n\nhash={digest(log)}\n"


def scores_of(category: str) -> Json:
    return {**rules.REFERENCE_SCORES[category]}


def write_scenario(run: RunFolder, scenario: str, category: str, round_name: str) -> Json:
    """Logs, scores and TEST06 of one scenario; gives its part of results.json."""
    for mode in rules.MODES:
        write_detail(run.log_dir(scenario, mode), detail_values(scenario, mode, category, round_name))
        run.log_dir(scenario, mode).joinpath("mlperf_log_accuracy.json").write_text(
            "[\n]\n", encoding="utf-8"
        )
    run.scenario(scenario).joinpath("user.conf").write_text(
        f"*.{rules.loadgen_scenario(scenario)}.min_duration = 600000\n", encoding="utf-8"
    )
    log = run.log_dir(scenario, "accuracy") / "mlperf_log_accuracy.json"
    write_responses(log, [response(i) for i in range(rules.SAMPLE_COUNT[category])])
    scores = scores_of(category)
    log.with_name("accuracy.txt").write_text(accuracy_text(scores, log), encoding="utf-8")
    records = [response(i) | {"token_data": hex_of(791)} for i in range(100)]
    audit = run.log_dir(scenario, "compliance")
    write_responses(audit / "mlperf_log_accuracy.json", records)
    verified = test06.verify(audit / "mlperf_log_accuracy.json", scenario)
    (audit / "verify_accuracy.txt").write_text(verified.text(), encoding="utf-8")
    performance = codec.to_json(logs.performance(run.log_dir(scenario, "performance"), scenario))
    full, passes = rules.SAMPLE_COUNT[category], 1 if scenario == rules.SINGLE_STREAM else 2
    share = 1.0 if scenario in MEAN_TOKENS else 1 - 1 / (2 * full)
    mean = MEAN_TOKENS.get(scenario, 5100 / 42) * share
    return {
        "performance": {**performance, **driven(passes * full, round(passes * full * mean))},
        "accuracy": {**scores, "passed": True, **driven(full, 3 * full)},
        "compliance": {"passed": True, **driven(passes * full, passes * full * 100)},
    }


def driven(samples: int, tokens: int) -> Json:
    """What the package and the engine counted, of one LoadGen run."""
    prompts = PROMPT_TOKENS * samples
    own = {"samples": samples, "tokens": tokens, "prompt_tokens": prompts, "seconds": 630.1}
    return {
        "counters": {"steps": 1000, "scheduled_tokens": prompts + tokens - samples, "preemptions": 0},
        "driven": {**own, "wall_seconds": 630.1, "began": BEGAN, "loadgen": LOADGEN},
    }


def engine_loads() -> Json:
    """engine.json of one load with the H100's shipped settings."""
    arguments = {"model": "/data", "max_num_seqs": 1024, "enable_prefix_caching": False}
    shape = {
        "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14336, "vocab_size": 128256,
    }  # fmt: skip
    resolved = {
        "model_config": {"hf_config": shape, "logits_processors": None},
        "device_config": {"device_type": "cuda"},
        "speculative_config": None,
    }
    preset = {"name": "h100", "content": "[engine]", "sha256": "1" * 64, "environment": {}}
    load = {"time": BEGAN, "name": "vllm", "version": "0.26.0", "arguments": arguments, "preset": preset,
            "extension": None, "resolved": resolved}  # fmt: skip
    return {"loads": [load]}


def environment() -> Json:
    """environment.json of one process that only the environment's own packages came into."""
    packages = [
        {"name": name, "file": file, "version": version, "locked": [version], "sha256": "2" * 64, "files": 9,
         "differing": [], "foreign": False}
        for name, file, version in (
            ("mlperf_llama", "/app/python/mlperf_llama/__init__.py", "0.1.0"),
            ("vllm", "/environment/vllm/__init__.py", "0.26.0"),
            ("torch", "/environment/torch/__init__.py", "2.11.0"),
            ("mlperf_loadgen", LOADGEN, "6.0.17"),
        )
    ]  # fmt: skip
    process = {
        "time": BEGAN, "executable": "/environment/bin/python", "path": ["/app/python"], "foreign_path": [],
        "flags": {"safe_path": True, "no_user_site": True}, "start_files": [], "preloaded": [],
        "variables": {"CUDA_VISIBLE_DEVICES": "0"}, "engine_variables": {"LD_PRELOAD": "libtcmalloc.so.4"},
        "packages": packages,
        "installed": {"distributions": 140, "files": 19000, "sha256": "3" * 64},
    }  # fmt: skip
    return {"processes": [process]}


def config_values(scenarios: tuple[str, ...], category: str, round_name: str) -> Json:
    flags = {"SCENARIO": ",".join(scenarios), "CATEGORY": category, "ROUND": round_name, "MODE": "all"}
    return config.load(flags, {}).to_json()


def good_run(
    path: Path,
    category: str = rules.DATACENTER,
    round_name: str = "v6.1",
    scenarios: tuple[str, ...] | None = None,
) -> RunFolder:
    """A run folder that every check passes."""
    names = scenarios or rules.CATEGORY_SCENARIOS[category]
    full = rules.SAMPLE_COUNT[category]
    path.mkdir(parents=True)
    run = RunFolder(path)
    write_json(run, "config.json", config_values(names, category, round_name))
    write_json(run, "system.json", SYSTEM)
    source = {"path": "/data", "sha256": "0" * 64, "eligible": True, "reason": "", "attempts": []}
    write_json(
        run,
        "provenance.json",
        {
            "round": round_name,
            "loadgen_version": rules.ROUNDS[round_name].loadgen_version,
            "dataset": {**source, "source": "mlcommons", "rows": full},
            "model": {**source, "source": "huggingface", "revision": rules.MODEL_REVISION},
            "samples": full,
            "shortened": False,
        },
    )
    write_json(
        run,
        "results.json",
        {
            "status": "complete",
            "started": "2026-11-23T09:50:00+00:00",
            "finished": "2026-11-23T11:00:00+00:00",
            "round": round_name,
            "category": category,
            "engine": {"name": "vllm", "version": "0.26.0", "settings": SETTINGS, "load_s": 30.0},
            "scenarios": {n: write_scenario(run, n, category, round_name) for n in names},
        },
    )
    write_json(run, "engine.json", engine_loads())
    write_json(run, "environment.json", environment())
    reseal(run)
    return run


def add_static_scales(run: RunFolder) -> None:
    """Make a good run one with static scales that it made itself."""
    values = dict.fromkeys(scales.names(rules.MODEL_SHAPE.layers), 0.25)
    used = {"tokenizer_sha256": "1" * 64, "ids_sha256": "2" * 64, "ids_count": rules.CALIBRATION_COUNT}
    articles = {"source": "mlcommons", "sha256": "3" * 64}
    record = {
        "method": codec.to_json(scales.METHOD),
        "model_sha256": "0" * 64,
        **used,
        "calibration": {**articles, "uri": "https://example.org/calibration.uri"},
        "code_sha256": scales.code_sha256(),
        "torch": "2.11.0",
        "device": "NVIDIA H100 80GB HBM3",
        "scales": values,
    }
    write_json(run, Scales.FILE, record)
    proven = {"path": "/articles", "eligible": True, "reason": "", "rows": rules.CALIBRATION_COUNT}

    def change(data: Json) -> None:
        data["calibration"] = {**articles, **proven, "attempts": []}
        data["scales"] = {"mode": "static", "reason": "", **used}

    edit_json(run.file("provenance.json"), change)
    name_scales(run)
    reseal(run)


def name_scales(run: RunFolder) -> None:
    """Have every record name scales.json as it is now."""
    sha256 = digest(run.file(Scales.FILE))
    fp8 = {"quantization": scales.QUANTIZATION, "kv_cache_dtype": "fp8", "scales_sha256": sha256}
    edit_json(run.file("provenance.json"), lambda d: d["scales"].update(sha256=sha256))
    edit_json(run.file("results.json"), lambda d: d["engine"]["settings"].update(fp8))
    given = {"quantization": scales.QUANTIZATION}
    edit_json(run.file("engine.json"), lambda d: d["loads"][0]["arguments"].update(given))


def write_json(run: RunFolder, name: str, data: Json) -> None:
    """A record's file as another version, or somebody else, may have written it."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **data}, indent=2)
    run.file(name).write_text(text + "\n", encoding="utf-8")


def record_performance(run: RunFolder, scenario: str) -> None:
    """Write what LoadGen's log says into results.json, where it says anything."""
    try:
        derived = codec.to_json(logs.performance(run.log_dir(scenario, "performance"), scenario))
    except BrokeError:
        return
    edit_json(run.file("results.json"), lambda d: d["scenarios"][scenario]["performance"].update(derived))


def reseal(run: RunFolder) -> None:
    """Seal the folder as it is now, as a stage that wrote it would have."""
    run.file(Seal.FILE).unlink(missing_ok=True)
    time, source = "2026-01-01T00:00:00+00:00", source_sha256()
    stages = tuple(SealedStage(name, time, source) for name in (seal.CREATED, seal.MEASURED))
    run.write(Seal(stages, (), seal.hashes(run)))


def edit_json(path: Path, change: Callable[[Json], None]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")


def edit_detail(folder: Path, **values: object) -> None:
    """Replace values in a detail log; None takes the key out."""
    path = folder / "mlperf_log_detail.txt"
    lines = list(_edited(path.read_text(encoding="utf-8").splitlines(), values))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _edited(lines: list[str], values: dict[str, object]) -> Iterator[str]:
    for line in lines:
        entry = json.loads(line.removeprefix(":::MLLOG "))
        if entry["key"] not in values:
            yield line
        elif values[entry["key"]] is not None:
            yield _line(entry["key"], values[entry["key"]])
