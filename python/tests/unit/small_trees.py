"""Small submission trees with invented numbers, which both checkers accept: made in milliseconds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import run_folders as folders

from mlperf_llama import rules
from mlperf_llama.loadgen import logs
from mlperf_llama.submission import description
from mlperf_llama.submission.layout import Layout
from mlperf_llama.submission.metadata import MEASUREMENTS
from mlperf_llama.verdict import test06

SYSTEM = "box"


def make(root: Path, division: str = "open", category: str = rules.EDGE, round_name: str = "v6.1") -> Layout:
    """A tree of one system: every scenario that the category needs; TEST06 where it is asked for."""
    benchmark = rules.benchmark_name(category)
    layout = Layout(root, round_name, division, "Example", SYSTEM, benchmark)
    for scenario in (names[0] for names in rules.REQUIRED_SCENARIOS[category]):
        _scenario(layout, scenario, category)
    for folder in (layout.systems, layout.source / benchmark, layout.documentation):
        folder.mkdir(parents=True)
    numbers = dict.fromkeys(("number_of_nodes", "accelerators_per_node"), "1")
    names = {"division": division, "submitter": "Example", "status": "available", "system_type": category}
    layout.system_json.write_text(json.dumps(dict.fromkeys(description.KEYS, "x") | numbers | names))
    (layout.documentation / "calibration.md").write_text("none\n")
    (layout.documentation / "bandwidth.md").write_text("one NIC\n")
    return layout


def _scenario(layout: Layout, scenario: str, category: str) -> None:
    performance, scored = layout.performance(scenario), layout.accuracy(scenario)
    for folder, mode in ((performance, "performance"), (scored, "accuracy")):
        folders.write_detail(folder, folders.detail_values(scenario, mode, category, layout.round))
    (scored / logs.ACCURACY).write_text("[\n]\n")
    scores = folders.scores_of(category)
    (scored / "accuracy.txt").write_text(f"{scores}\n\nhash={'0' * 64}\n")
    measured = layout.measurements(scenario)
    measured.mkdir(parents=True, exist_ok=True)
    (measured / "user.conf").write_text("*.target_qps = 1\n")
    (measured / "README.md").write_text("Example\n")
    layout.measurements_json(scenario).write_text(json.dumps(dict.fromkeys(MEASUREMENTS, "none")))
    if category == rules.DATACENTER:
        write_test06(layout, scenario)


def write_test06(layout: Layout, scenario: str, width: int = 4, tokens: int = 128) -> None:
    """100 responses of so many tokens, each an integer of so many bytes."""
    folder = layout.test06(scenario)
    (folder / "accuracy").mkdir(parents=True, exist_ok=True)
    data = "".join((1000 + n).to_bytes(width, "little").hex() for n in range(tokens))
    record = {"data": data, "token_data": data[: 2 * width], "token_count": tokens}
    log = folder / "accuracy" / logs.ACCURACY
    folders.write_responses(log, [{"seq_id": n, "qsl_idx": n, **record} for n in range(100)])
    text = test06.Verification(scenario, test06.RECORDS, "", (), (), ()).text()
    (folder / test06.TEXT).write_text(text)


def edit(path: Path, before: str, after: str) -> None:
    """Replace text of a file, which must be in it."""
    text = path.read_text()
    assert re.search(before, text)
    path.write_text(re.sub(before, after, text, count=1))
