"""Reading LoadGen's logs; the lines are as 6.0.17 wrote them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlperf_llama import rules
from mlperf_llama.errors import BrokeError, MissingError
from mlperf_llama.loadgen import logs
from mlperf_llama.records import codec

SERVER: dict[str, Any] = {
    "effective_scenario": "Server",
    "effective_qsl_rng_seed": 1,
    "effective_sample_index_rng_seed": 2,
    "effective_schedule_rng_seed": 16159082839903944936,
    "generated_query_count": 608,
    "generated_samples_per_query": 1,
    "power_begin": "11-23-2026 23:59:59.348",
    "power_end": "11-24-2026 00:00:00.355",
    "result_validity": "VALID",
    "early_stopping_met": True,
    "result_query_count": 608,
    "result_completed_samples_per_sec": 602.852,
    "result_max_latency_ns": 2871089,
    "result_first_token_99.00_percentile_latency_ns": 831533,
    "result_time_per_output_token_99.00_percentile_ns": 943,
    "result_completed_tokens_per_second": 6038.45,
}
INVALID = {
    "result_validity": "INVALID",
    "early_stopping_met": False,
    "result_invalid_reason": "TTFT constrain not met: Reduce target QPS to improve latency. ",
    "early_stopping_ttft_result": " * Run unsuccessful.  * Processed 608 queries.",
    "early_stopping_tpot_result": " * Run successful.",
}


def line(key: str, value: Any, **metadata: bool) -> str:
    about = {"is_error": False, "is_warning": False, **metadata}
    return logs.MARK + json.dumps({"key": key, "value": value, "time_ms": 1.5, "metadata": about})


def write(folder: Path, values: dict[str, Any], *extra: str, accuracy: str = "[\n]\n") -> Path:
    lines = [line(key, value) for key, value in values.items()]
    (folder / logs.DETAIL).write_text("\n".join([*lines, *extra]) + "\n")
    (folder / logs.ACCURACY).write_text(accuracy)
    return folder


def test_server_performance(tmp_path: Path) -> None:
    assert codec.to_json(logs.performance(write(tmp_path, SERVER), rules.INTERACTIVE)) == {
        "samples_per_second": 602.852,
        "tokens_per_second": 6038.45,
        "total_time_seconds": 1.007,
        "samples_processed": 608,
        "loadgen_result": "VALID",
        "ttft_p99_ms": 0.831533,
        "tpot_p99_ms": 0.000943,
        "latency_p90_ms": None,
        "invalid_reasons": [],
        "loadgen_errors": [],
    }


def test_offline_performance(tmp_path: Path) -> None:
    values = {
        "generated_samples_per_query": 26736,
        "result_validity": "VALID",
        "result_query_count": 1,
        "result_samples_per_second": 45.13,
        "result_tokens_per_second": 5776.6,
        "result_max_latency_ns": 592421892000,
    }
    measured = logs.performance(write(tmp_path, values), rules.OFFLINE)
    assert measured.samples_processed == 26736
    assert measured.total_time_seconds == 592.421892
    assert (measured.tokens_per_second, measured.ttft_p99_ms) == (5776.6, None)


def test_invalid_says_why(tmp_path: Path) -> None:
    detail = logs.read_detail(write(tmp_path, {**SERVER, **INVALID}))
    assert detail.validity == "INVALID"
    assert detail.invalid_reasons == (
        "TTFT constrain not met: Reduce target QPS to improve latency.",
        "Run unsuccessful. Processed 608 queries.",
    )


def test_settings_seeds_errors_and_warnings(tmp_path: Path) -> None:
    extra = [
        line("error_runtime", "Attempted to complete a sample twice.", is_error=True),
        line("warning_generic_message", "Found Audit Config file", is_warning=True),
        "noise",
        logs.MARK + '{"key": "cut off',
        logs.MARK + "[1]",
        logs.MARK + '{"key": "effective_qsl_rng_seed", "value": 9, "metadata": null}',
    ]
    detail = logs.read_detail(write(tmp_path, SERVER, *extra))
    assert detail.seeds == (1, 2, 16159082839903944936)
    assert detail.errors == ("Attempted to complete a sample twice.",)
    assert detail.warnings == ("Found Audit Config file",)
    assert logs.last_errors(tmp_path) == list(detail.errors)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("result_completed_samples_per_sec", "602", "expected a number for result_completed_samples_per_sec"),
        ("result_query_count", True, "expected a number for result_query_count"),
        ("power_end", "yesterday", "expected the times power_begin and power_end"),
    ],
)
def test_a_figure_of_another_kind_is_one_clear_line(
    key: str, value: object, message: str, tmp_path: Path
) -> None:
    write(tmp_path, {**SERVER, key: value})
    with pytest.raises(BrokeError, match=message):
        logs.performance(tmp_path, rules.SERVER)


def test_no_log_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="expected LoadGen's detail log, found none"):
        logs.read_detail(tmp_path)
    assert logs.last_errors(tmp_path) == []


def test_a_run_without_its_end_has_no_performance(tmp_path: Path) -> None:
    write(tmp_path, {"effective_scenario": "Server"})
    with pytest.raises(BrokeError, match="expected result_validity, found none"):
        logs.performance(tmp_path, rules.SERVER)
    with pytest.raises(BrokeError, match="the disk is full"):
        logs.check_complete(tmp_path, performance_run=True)


@pytest.mark.parametrize("accuracy", ["", "[\n{ ", '[\n{ "seq_id" : 0, "data" : "AB'])
def test_a_cut_off_accuracy_log_is_found(accuracy: str, tmp_path: Path) -> None:
    write(tmp_path, SERVER, accuracy=accuracy)
    with pytest.raises(BrokeError, match="is the disk full"):
        logs.check_complete(tmp_path, performance_run=False)
    write(tmp_path, SERVER)
    assert logs.check_complete(tmp_path, performance_run=True).validity == "VALID"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda t: t, ""),
        (lambda t: t.replace(logs.MARK, ":::ENDPTS "), "made by MLPerf Endpoints"),
        (lambda t: "x\n" + t, "its first line does not begin with :::MLLOG"),
        (lambda t: t + logs.MARK + "{\n" + logs.MARK + "{}\n", "2 broken lines"),
        (lambda t: line("effective_scenario", "Offline") + "\n" + t, "effective_scenario stated twice"),
        (lambda t: line("effective_scenario", "Server") + "\n" + t, ""),
        (lambda t: t + line("generic_message", "a") + "\n" + line("generic_message", "b") + "\n", ""),
        (lambda t: t.replace("VALID", "\udcff"), "it is not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_log_is_said(change: Callable[[str], str], fault: str, tmp_path: Path) -> None:
    path = write(tmp_path, SERVER) / logs.DETAIL
    path.write_bytes(change(path.read_text()).encode(errors="surrogateescape"))
    detail = logs.read_detail(tmp_path)
    assert len(detail.faults) == bool(fault) and fault in "; ".join(detail.faults)
    assert detail.get("effective_qsl_rng_seed") == 1
