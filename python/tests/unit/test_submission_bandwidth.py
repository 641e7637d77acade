"""The bandwidth description, and what a datacenter system without the network for its result is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import run_folders as folders
from submission_trees import layout_of, packed

from mlperf_llama import rules
from mlperf_llama.errors import InvalidError
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import NetworkInterface
from mlperf_llama.submission import bandwidth

TEN, UNKNOWN = NetworkInterface("eno1", 10000), NetworkInterface("eno2", None)


def test_document_has_interfaces_and_what_each_scenario_takes() -> None:
    text = bandwidth.document((TEN, UNKNOWN), "10 Gbit/s Ethernet", {"Offline": 1000.0, "Server": 500.0})
    assert "| eno1 | 10 Gbit/s |\n| eno2 | not told by the machine |" in text
    assert "Together: 10 Gbit/s. As described: 10 Gbit/s Ethernet." in text
    # 1,000 samples/s x 10,240 bytes x 8 = 81.92 Mbit/s; out: 1,000 x 512 x 8 = 4.096 Mbit/s.
    assert "| Offline | 1000.00 | 81.92 | 4.10 | 0.82% |" in text
    assert "| Server | 500.00 | 40.96 | 2.05 | 0.41% |" in text
    # 10^10 / 8 / 10,240
    assert "at most" in text and "122,070 samples/s" in text


@pytest.mark.parametrize("network", [(), (UNKNOWN,)])
def test_unknown_speed_is_said(network: tuple[NetworkInterface, ...]) -> None:
    text = bandwidth.document(network, "", {"Offline": 1000.0})
    assert "| Offline | 1000.00 | 81.92 | 4.10 | not known |" in text and "As described: nothing" in text


def test_only_datacenter_trees_have_it(run: RunFolder, tmp_path: Path) -> None:
    text = (layout_of(packed(tmp_path, run)).documentation / bandwidth.NAME).read_text()
    assert "| Offline | 42.40 | 3.47 | 0.17 | 0.03% |" in text
    edge = folders.good_run(tmp_path / "edge", rules.EDGE)
    tree = packed(tmp_path, edge, CATEGORY="edge")
    assert not (layout_of(tree).documentation / bandwidth.NAME).exists()


def test_a_network_that_is_too_slow_is_refused(run: RunFolder, tmp_path: Path) -> None:
    folders.edit_json(run.file("system.json"), lambda d: d["network"][0].update(speed_mbit_s=3))
    folders.reseal(run)
    with pytest.raises(InvalidError, match=r"a network for what was measured, found 3\.5 Mbit/s"):
        packed(tmp_path, run)
