"""The published results: counted, sourced, and read as samples/s of one device."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlperf_llama import rules
from mlperf_llama.records.schema import Provided
from mlperf_llama.report import published

ROWS: list[dict[str, Any]] = json.loads(published.FILE.read_text(encoding="utf-8"))["results"]


def row(submitter: str, system: str, scenario: str) -> tuple[dict[str, Any], published.Published]:
    """One result as it stands in the file, and as it is read."""
    (at,) = [
        n
        for n, r in enumerate(ROWS)
        if (r["submitter"], r["system"], r["scenario"]) == (submitter, system, scenario)
    ]
    return ROWS[at], published.load()[at]


def test_every_row_has_a_source_a_device_and_a_figure() -> None:
    assert len(ROWS) == len(published.load()) == 70
    for raw, result in zip(ROWS, published.load(), strict=True):
        assert raw["source"] and result.device and result.devices >= 1
        assert result.scenario in rules.SCENARIOS
        assert result.benchmark in ("llama3.1-8b", "llama3.1-8b-edge")
        single = result.scenario == rules.SINGLE_STREAM
        assert (result.samples_per_second is None) == single
        assert (raw["latency_p90_ms"] is not None) == single


def test_red_hats_h100_as_logged() -> None:
    raw, result = row("RedHat", "XE8640_4xH100_vLLM", "Server")
    assert (raw["tokens_per_second"], raw["ttft_p99_ms"], raw["tpot_p99_ms"]) == (5103.99, 1911.2, 25.1)
    assert (result.samples_per_second, result.devices) == (39.56, 1)


def test_the_h200_record_is_divided_by_its_eight_gpus() -> None:
    _, result = row("HPE", "HPE_Cray_XD670_H200_SXM_141GBx8_TRT", "Offline")
    assert result.per_device == pytest.approx(64.489)
    assert result.per_device * 128 == pytest.approx(8254.6, abs=0.1)


def test_a_log_that_counts_129_tokens_is_compared_by_its_samples() -> None:
    raw, result = row("Quanta Cloud Technology", "D74U-7U_H200-SXM-141GBx8_TRT", "Interactive")
    assert raw["tokens_per_second"] / result.samples_per_second == pytest.approx(129, abs=0.01)
    assert result.per_device is not None and result.per_device * 128 == pytest.approx(6712.2, abs=0.1)


def test_comparable_leaves_out_open_results_and_other_benchmarks() -> None:
    results = published.comparable("llama3.1-8b", "Offline")
    rates = [r.per_device or 0 for r in results]
    assert rates == sorted(rates, reverse=True)
    assert {r.division for r in results} == {"closed", "unsubmitted"}
    assert not any("4090" in r.device for r in results), "an open result"
    devices = [r.device for r in published.best_of_each_device(results)]
    assert len(devices) == len(set(devices)) and "NVIDIA A30" in devices


def test_the_shape_of_a_model() -> None:
    assert published.has_the_shape(Provided(eligible=True))
    for same in (True, False):
        provided = Provided(eligible=False, details={"same_shape": same})
        assert published.has_the_shape(provided) is same
    assert not published.has_the_shape(Provided())
    assert not published.has_the_shape(None)
