"""The published results: counted, sourced, and read as samples/s of one device."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

import published_results

from mlperf_llama import rules
from mlperf_llama.records.schema import Provided
from mlperf_llama.report import published

FIGURES = Path(published_results.__file__).with_name("published_v6.1.toml")
ROWS: list[dict[str, Any]] = json.loads(published.FILE.read_text(encoding="utf-8"))["results"]


def row(
    submitter: str, system: str, scenario: str, round_name: str = "v5.1"
) -> tuple[dict[str, Any], published.Published]:
    """One result as it stands in the file, and as it is read."""
    (at,) = [
        n
        for n, r in enumerate(ROWS)
        if (r["submitter"], r["system"], r["scenario"], r["round"])
        == (submitter, system, scenario, round_name)
    ]
    return ROWS[at], published.load()[at]


def test_every_row_has_a_source_a_device_and_a_figure() -> None:
    assert len(ROWS) == len(published.load()) == 211
    for raw, result in zip(ROWS, published.load(), strict=True):
        assert raw["source"] and result.device and result.devices >= 1
        assert result.scenario in rules.SCENARIOS
        assert result.benchmark in ("llama3.1-8b", "llama3.1-8b-edge")
        single = result.scenario == rules.SINGLE_STREAM
        assert (raw["tokens_per_second"] is None) == (single or result.round is None)
        assert (raw["latency_p90_ms"] is not None) == single
        # One submitter's logs are at hand only as tokens/s, which say nothing of the samples.
        assert (result.samples_per_second is None) == (single or result.submitter == "VibeHPC")
        assert result.link is None or result.link.startswith(published.REPOSITORY.format(result.round))
        assert result.kind in ("accelerator", "cpu") and result.nodes >= 1


def test_each_round_is_there_with_both_divisions_and_the_edge_category() -> None:
    counts = Counter((r.round, r.division, r.benchmark) for r in published.load())
    datacenter = {name: counts[name, "closed", "llama3.1-8b"] for name in ("v5.1", "v6.0", "v6.1")}
    assert datacenter == {"v5.1": 56, "v6.0": 68, "v6.1": 76}
    assert counts["v6.0", "open", "llama3.1-8b-edge"] == counts["v6.1", "open", "llama3.1-8b-edge"] == 2


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


def test_two_hosts_of_unlike_gpus_are_divided_by_all_sixteen() -> None:
    raw, result = row("Cisco", "Cisco_UCS_H200x8_MI350Xx8_G200_2x2_TOR", "Offline", "v6.1")
    assert (result.nodes, result.devices, result.tokens_per_sample) == (2, 16, 128.0)
    assert result.per_device == pytest.approx(1275.72 / 16)
    assert result.link and result.link.endswith("/llama3.1-8b/Offline")
    assert raw["weights"] == "fp8,fp4"


def test_the_round_without_a_checkout_is_what_its_figures_say() -> None:
    listed = published_results.of_figures("v6.1", FIGURES)
    assert sorted(map(str, listed)) == sorted(str(r) for r in ROWS if r["round"] == "v6.1")


def test_figures_of_a_summary_log() -> None:
    server = (
        "Completed samples per second    : 65.85\nCompleted tokens per second: 8494.68\nResult is : VALID\n"
        "Completed tokens per second                 : 8494.68\n"
        "99.00 percentile first token latency (ns)   : 168516087\n"
        "99.00 percentile time to output token (ns)   : 29932683\n"
    )
    assert published_results.figures(server) == {
        "samples_per_second": 65.85,
        "tokens_per_second": 8494.68,
        "ttft_p99_ms": 168.5,
        "tpot_p99_ms": 29.9,
        "latency_p90_ms": None,
    }
    single = published_results.figures("90.0th percentile latency (ns) : 4145546277\n")
    assert single["latency_p90_ms"] == 4145.5 and single["samples_per_second"] is None


@pytest.mark.parametrize(
    ("system", "device", "devices"),
    [
        ({"accelerators_per_node": "4", "accelerator_model_name": "Nvidia B300"}, "NVIDIA B300", 8),
        ({"accelerators_per_node": "0", "accelerator_model_name": "N/A"}, "Intel(R) Xeon(R) 6980P", 4),
        ({"accelerator_model_name": "N/A"}, "Intel(R) Xeon(R) 6980P", 4),
    ],
)
def test_the_machine_of_a_system_file(system: dict[str, object], device: str, devices: int) -> None:
    cpu = {"host_processor_model_name": "INTEL(R) XEON(R) 6980P", "host_processors_per_node": 2}
    whole = {"submitter": "A_B", "framework": "x", "number_of_nodes": "2", **cpu, **system}
    machine = published_results.machine_of(whole, "folder", "fp8")
    assert (machine["device"], machine["devices"], machine["submitter"]) == (device, devices, "A B")


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
