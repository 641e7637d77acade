"""The published results: counted, sourced, and read as samples/s of one device."""

from __future__ import annotations

import pytest

from mlperf_llama import rules
from mlperf_llama.report import published


def one(submitter: str, system: str, scenario: str) -> published.Published:
    (found,) = [
        p for p in published.load() if (p.submitter, p.system, p.scenario) == (submitter, system, scenario)
    ]
    return found


def test_every_row_has_a_source_a_device_and_a_figure() -> None:
    rows = published.load()
    assert len(rows) == 70
    for row in rows:
        assert row.source and row.device and row.devices >= 1
        assert row.scenario in rules.SCENARIOS and row.benchmark in ("llama3.1-8b", "llama3.1-8b-edge")
        assert (row.samples_per_second is None) == (row.scenario == "SingleStream")
        assert (row.latency_p90_ms is not None) == (row.scenario == "SingleStream")


def test_red_hats_h100_as_logged() -> None:
    row = one("RedHat", "XE8640_4xH100_vLLM", "Server")
    assert (row.samples_per_second, row.tokens_per_second) == (39.56, 5103.99)
    assert (row.ttft_p99_ms, row.tpot_p99_ms, row.devices) == (1911.2, 25.1, 1)


def test_the_h200_record_is_divided_by_its_eight_gpus() -> None:
    row = one("HPE", "HPE_Cray_XD670_H200_SXM_141GBx8_TRT", "Offline")
    assert row.per_device == pytest.approx(64.489) and row.per_device * 128 == pytest.approx(8254.6, abs=0.1)


def test_a_log_that_counts_129_tokens_is_compared_by_its_samples() -> None:
    row = one("Quanta Cloud Technology", "D74U-7U_H200-SXM-141GBx8_TRT", "Interactive")
    assert row.tokens_per_second is not None and row.samples_per_second is not None
    assert row.tokens_per_second / row.samples_per_second == pytest.approx(129, abs=0.01)
    assert row.per_device is not None and row.per_device * 128 == pytest.approx(6712.2, abs=0.1)


def test_comparable_leaves_out_open_results_and_other_benchmarks() -> None:
    rows = published.comparable("llama3.1-8b", "Offline")
    rates = [r.per_device or 0 for r in rows]
    assert rates == sorted(rates, reverse=True)
    assert {r.division for r in rows} == {"closed", "unsubmitted"}
    assert not any("4090" in r.device for r in rows), "an open result"
    devices = [r.device for r in published.best_of_each_device(rows)]
    assert len(devices) == len(set(devices)) and "NVIDIA A30" in devices


def test_the_shape_of_a_model() -> None:
    assert published.has_the_shape({"eligible": True})
    for same in (True, False):
        assert published.has_the_shape({"eligible": False, "details": {"same_shape": same}}) is same
    assert not published.has_the_shape({})
