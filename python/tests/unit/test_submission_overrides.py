"""system.toml against what the run measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import run_folders as folders
from submission_trees import SYSTEM_TOML, failed, layout_of, packed, settings

from mlperf_llama.errors import UsageError
from mlperf_llama.records import codec
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import LoadedEngine, System
from mlperf_llama.submission import description, overrides, preflight

MEASURED = description.measured(codec.from_json(System, folders.SYSTEM), LoadedEngine("vllm", "0.26.0"))
PATH = Path("system.toml")


@pytest.mark.parametrize(
    ("key", "stated"),
    [
        ("accelerators_per_node", 1),
        ("accelerators_per_node", "1"),
        ("accelerator_model_name", "NVIDIA H100 80GB HBM3 (SXM5)"),
        ("accelerator_memory_capacity", "80 GB"),
        ("host_memory_capacity", "1 TiB (16x 64 GB)"),
        ("host_processor_model_name", "Intel Xeon Gold 6448Y"),
        ("host_processor_model_name", "Intel Xeon Gold 6448Y CPU @ 2.10GHz, 32 cores"),
        ("host_processors_per_node", 2),
        ("accelerator_model_name", "NVIDIA H100 80GB HBM3, SXM5, 700 W"),
        ("accelerator_host_interconnect", "PCIe Gen5 x16, 64 GB/s"),
        ("framework", "vLLM 0.26.0, CUDA 13.0"),
        ("framework", "vLLM 0.26.0 and CUDA 13.0"),
        ("operating_system", "Debian GNU/Linux 12 (bookworm), kernel 6.1.0-18-amd64"),
        ("operating_system", "Debian GNU/Linux 12"),
        ("other_software_stack", {"torch": "2.11.0", "CUDA driver": "580.65.06"}),
        ("other_software_stack", "torch 2.11.0"),
        ("number_of_nodes", 1),
        # What no machine tells is free.
        ("cooling", "water"),
        ("system_name", "Example Server (8x H100)"),
        ("status", "preview"),
    ],
)
def test_what_only_says_more_or_less_agrees(key: str, stated: object) -> None:
    assert overrides.find(PATH, MEASURED, {key: stated}) == []


@pytest.mark.parametrize(
    ("key", "stated"),
    [
        ("accelerators_per_node", 8),
        ("accelerators_per_node", "8"),
        ("accelerators_per_node", "eight"),
        ("accelerator_model_name", "NVIDIA H200"),
        ("accelerator_model_name", ""),
        ("accelerator_model_name", "NVIDIA B200 and NVIDIA H100 80GB HBM3"),
        ("accelerator_model_name", "NVIDIA H100 80GB HBM3, B200"),
        ("accelerator_model_name", "NVIDIA H100 80GB HBM3, NVIDIA H100 80GB HBM3"),
        ("accelerator_model_name", "no NVIDIA H100 80GB HBM3"),
        ("accelerator_memory_capacity", "141 GB"),
        ("accelerator_memory_capacity", "plenty"),
        ("accelerator_host_interconnect", "PCIe Gen4 x16"),
        ("accelerator_interconnect", "NVLink, 12 links"),
        ("host_memory_capacity", "2 TB"),
        ("host_memory_capacity", "1008 GiB plus 9 TB CXL"),
        ("host_processor_model_name", "AMD EPYC 9654"),
        ("host_processor_model_name", "AMD EPYC 9965, not Intel Xeon Gold 6448Y"),
        ("host_processor_model_name", "Intel Xeon Gold 6448Y / 6530"),
        ("host_processor_core_count", 64),
        ("host_processors_per_node", 1),
        ("host_storage_capacity", "100 TB"),
        ("host_network_card_count", "8"),
        ("host_networking", "400 Gbit/s Ethernet"),
        ("host_networking", "10 Gbit/s Ethernet + 400 Gbit/s Ethernet"),
        ("framework", "vLLM 0.27.0"),
        ("framework", "vLLM 0.27.0, vLLM 0.26.0"),
        ("framework", "TensorRT-LLM, not vLLM 0.26.0"),
        ("operating_system", "Ubuntu 24.04"),
        ("operating_system", "Debian GNU/Linux 12 (bookworm), Ubuntu 24.04"),
        ("other_software_stack", "torch 2.12.0"),
        ("number_of_nodes", 2),
    ],
)
def test_what_contradicts_needs_a_reason(key: str, stated: object) -> None:
    with pytest.raises(
        UsageError, match=rf"system.toml: expected what the run measured.*{key}: measured .*found"
    ):
        overrides.find(PATH, MEASURED, {key: stated})
    with pytest.raises(UsageError, match=key):
        overrides.find(PATH, MEASURED, {key: stated, "reasons": {key: " "}})
    (override,) = overrides.find(PATH, MEASURED, {key: stated, "reasons": {key: "The driver says it wrong."}})
    assert (override.key, override.reason) == (key, "The driver says it wrong.")


def test_no_accelerator_measured_and_eight_stated() -> None:
    none = description.measured(System(), LoadedEngine("vllm", "0.26.0"))
    with pytest.raises(UsageError, match="accelerators_per_node: measured 0, found 8"):
        overrides.find(PATH, none, {"accelerators_per_node": 8, "accelerator_model_name": "NVIDIA H100"})


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        ({"cooling": "why not"}, "cooling contradicts nothing measured"),
        ("because", "expected a table of keys"),
    ],
)
def test_a_reason_without_a_contradiction_is_refused(reasons: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        overrides.find(PATH, MEASURED, {"cooling": "air", "reasons": reasons})


def test_what_the_run_tells_later_is_left_for_then() -> None:
    toml = {"framework": "vLLM 0.27.0", "reasons": {"framework": "a build of our own"}}
    assert overrides.find(PATH, MEASURED, toml, later=("framework",)) == []


def test_a_contradiction_is_refused_before_the_runs(tmp_path: Path) -> None:
    machine = codec.from_json(System, folders.SYSTEM)
    used = settings(tmp_path)
    preflight.check_ready(used, machine)
    with (tmp_path / "system.toml").open("a") as stream:
        stream.write('framework = "vLLM of tomorrow"\naccelerators_per_node = 8\n')
    with pytest.raises(
        UsageError, match=r"found another value \(accelerators_per_node: measured 1, found 8\)"
    ):
        preflight.check_ready(used, machine)


def pack(run: RunFolder, tmp_path: Path, toml: str) -> Path:
    used = tmp_path / "own.toml"
    used.write_text(SYSTEM_TOML + toml)
    return packed(tmp_path, run, SYSTEM_FILE=str(used))


def test_an_override_stands_in_the_tree_with_its_reason(run: RunFolder, tmp_path: Path) -> None:
    eight = "accelerators_per_node = 8\n"
    with pytest.raises(UsageError, match="accelerators_per_node: measured 1, found 8"):
        pack(run, tmp_path, eight)
    assert not list((tmp_path / "results").glob("*/*"))
    root = pack(run, tmp_path, eight + '[reasons]\naccelerators_per_node = "The others were idle."\n')
    written = json.loads(layout_of(root).system_json.read_text())
    assert written["overrides"] == {
        "accelerators_per_node": {"measured": "1", "stated": "8", "reason": "The others were idle."}
    }
    assert "is stated as 8, measured was 1: The others were idle." in written["hw_notes"]
    assert failed(root) == set()
    written["overrides"]["accelerators_per_node"]["reason"] = ""
    layout_of(root).system_json.write_text(json.dumps(written))
    assert failed(root) == {"system.overrides"}
