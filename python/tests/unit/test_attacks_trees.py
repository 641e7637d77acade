"""Trees that were bent, each from another side: `mlperf-llama check` refuses every one by name.

Where MLCommons' checker is at hand (MLPERF_INFERENCE_DIR) it is asked too: ours never passes what it refuses.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import run_folders as folders
import small_trees as trees

import mlperf_llama
from mlperf_llama import rules
from mlperf_llama.errors import EXIT_INVALID, EXIT_MISSING, EXIT_OK
from mlperf_llama.loadgen import logs
from mlperf_llama.submission import official
from mlperf_llama.submission.layout import Layout

pytestmark = pytest.mark.slow

Attack = Callable[[Layout], object]
PACKAGE = Path(mlperf_llama.__file__).parents[1]


def checkout() -> str:
    named = os.environ.get("MLPERF_INFERENCE_DIR", "")
    return named if named and (Path(named) / official.TOOLS / "submission_checker").is_dir() else ""


def check(root: Path, cwd: Path) -> tuple[int, str]:
    """Exit code and output of `mlperf-llama check TREE`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("MLPERF_")}
    env |= {"PYTHONPATH": str(PACKAGE), "MLPERF_ENV_FILE": "/dev/null", "MLPERF_RESULTS_DIR": str(cwd)}
    env |= {"MLPERF_INFERENCE_DIR": checkout() or str(cwd), "MLPERF_CACHE_DIR": str(cwd / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "mlperf_llama", "check", str(root)],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


GOOD = EXIT_OK if checkout() else EXIT_MISSING


@pytest.mark.parametrize("category", rules.SAMPLE_COUNT)
@pytest.mark.parametrize("round_name", rules.ROUNDS)
@pytest.mark.parametrize("division", ["closed", "open"])
def test_a_sound_tree_passes(division: str, round_name: str, category: str, tmp_path: Path) -> None:
    trees.make(tmp_path / "T", division, category, round_name)
    code, text = check(tmp_path / "T", tmp_path)
    assert code == GOOD, text
    assert "accepts" in text or not checkout()


def test_lower_case_is_judged_like_any_other(tmp_path: Path) -> None:
    layout = trees.make(tmp_path / "T")
    sound = check(layout.root, tmp_path)[1].splitlines()[-1]
    for folder in layout.benchmark_folder.iterdir():
        folder.rename(folder.with_name(folder.name.lower()))
    code, text = check(layout.root, tmp_path)
    assert code == GOOD and text.splitlines()[-1] == sound, text


def _rename(name: str, to: str) -> Attack:
    return lambda layout: (layout.benchmark_folder / name).rename(layout.benchmark_folder / to)


def _log(scenario: str = "SingleStream", **values: object) -> Attack:
    return lambda layout: folders.edit_detail(layout.performance(scenario), **values)


def _make(path: Callable[[Layout], Path]) -> Attack:
    return lambda layout: path(layout).mkdir(parents=True)


def _copy(name: str, to: str) -> Attack:
    return lambda layout: shutil.copytree(layout.benchmark_folder / name, layout.benchmark_folder / to)


def _append(path: Callable[[Layout], Path], text: str) -> Attack:
    def attack(layout: Layout) -> None:
        path(layout).write_text(path(layout).read_text() + text)

    return attack


def _first(path: Callable[[Layout], Path], line: str) -> Attack:
    return lambda layout: path(layout).write_text(line + path(layout).read_text())


def _edit(path: Callable[[Layout], Path], before: str, after: str) -> Attack:
    return lambda layout: trees.edit(path(layout), before, after)


def _system(**values: object) -> Attack:
    return lambda layout: folders.edit_json(layout.system_json, lambda d: d.update(values))


def _remove(path: Callable[[Layout], Path]) -> Attack:
    return lambda layout: shutil.rmtree(path(layout)) if path(layout).is_dir() else path(layout).unlink()


def _write(path: Callable[[Layout], Path], content: bytes) -> Attack:
    return lambda layout: path(layout).write_bytes(content)


def _endpoints(layout: Layout) -> None:
    for folder in (layout.performance("Offline"), layout.accuracy("Offline")):
        trees.edit(
            folder / logs.DETAIL, "(?s).+", (folder / logs.DETAIL).read_text().replace("MLLOG", "ENDPTS")
        )


def _endpoints_files(layout: Layout) -> None:
    for folder in (layout.performance("Offline"), layout.accuracy("Offline")):
        shutil.rmtree(folder)
        folder.mkdir()
    (layout.performance("Offline").parent / "result_summary.json").write_text("{}")
    (layout.accuracy("Offline") / "accuracy_results.json").write_text("{}")


def _unknown_round(layout: Layout) -> None:
    for log in layout.benchmark_folder.rglob(logs.DETAIL):
        folders.edit_detail(log.parent, effective_qsl_rng_seed=7)


def _detail(scenario: str) -> Callable[[Layout], Path]:
    return lambda layout: layout.performance(scenario) / logs.DETAIL


def _accuracy(layout: Layout) -> Path:
    return layout.accuracy("Offline") / "accuracy.txt"


LINE = ':::MLLOG {"key": "effective_min_duration_ms", "value": 600001, "metadata": {"is_error": false}}\n'
MEASURED = "Offline/measurements.json"
# What is bent in an open edge tree -> the words of a failed check.
OPEN_TREES: dict[str, tuple[Attack, str]] = {
    "a typo in a scenario": (_rename("SingleStream", "SingelStream"), "unknown scenario folder SingelStream"),
    "a scenario in capitals": (_rename("Offline", "OFFLINE"), "OFFLINE must be spelled Offline"),
    "a scenario twice": (_copy("Offline", "offline"), "Offline twice"),
    "a scenario of the other category": (_copy("SingleStream", "Server"), "foreign: Server"),
    "MultiStream": (_copy("SingleStream", "MultiStream"), "unknown scenario folder MultiStream"),
    "a copy beside it": (_copy("Offline", "Offline (copy)"), "unknown scenario folder Offline (copy)"),
    "a benchmark without scenarios": (
        _make(lambda f: f.benchmark_folder.with_name("llama3_1-8b")),
        "llama3_1-8b/scenario_folders: no scenario in it",
    ),
    "a benchmark spelled otherwise": (
        lambda f: shutil.copytree(f.benchmark_folder, f.benchmark_folder.with_name("Llama3.1-8B-edge")),
        "Llama3.1-8B-edge/folder: unknown benchmark",
    ),
    "a folder that is no benchmark": (
        _make(lambda f: f.benchmark_folder.with_name("old") / "logs"),
        "box/old/folder: it is no benchmark",
    ),
    "a notebook's folder": (
        _make(lambda f: f.home / "results" / ".ipynb_checkpoints"),
        "open/Example/.ipynb_checkpoints/folder: it is no system",
    ),
    "an empty system": (
        _make(lambda f: f.home / "results" / "box2"),
        "open/Example/box2/folder: it is no system",
    ),
    "an empty system with a description": (
        lambda f: (
            (f.home / "results" / "box2").mkdir(),
            shutil.copy(f.system_json, f.systems / "box2.json"),
        ),
        "box2/folder: an empty system",
    ),
    "a submitter without results": (
        _make(lambda f: f.root / "open/.git"),
        "open/.git/folder: no folder results",
    ),
    "a division in capitals": (
        lambda f: shutil.copytree(f.root / "open", f.root / "Closed"),
        "Closed/folder: no checker looks there",
    ),
    "the network division": (
        lambda f: shutil.copytree(f.root / "open", f.root / "network"),
        "network/folder: the network division",
    ),
    "a broken mapping": (_write(lambda f: f.home / "model_mapping.json", b"{"), "expected a JSON object"),
    "a mapping that makes another benchmark of it": (
        lambda f: (
            f.benchmark_folder.rename(f.benchmark_folder.with_name("mine")),
            (f.home / "model_mapping.json").write_text(json.dumps({"mine": "llama3.1-8b"})),
        ),
        "system_type edge, benchmark of the datacenter",
    ),
    "an unknown system_type": (_system(system_type="desktop"), "system_type desktop, expected one of"),
    "a system_type with a blank": (_system(system_type="edge, datacenter"), "system_type edge, datacenter"),
    "eight accelerators in words": (_system(accelerators_per_node="eight"), "expected a whole number"),
    "network mode": (_system(is_network="false"), "is_network false: leave it out"),
    "a description that is a list": (_write(lambda f: f.system_json, b"[]"), "box/folder: it is no system"),
    "an empty power folder": (
        _make(lambda f: f.performance("Offline").parent / "power"),
        "Offline.power: missing: power/client.json",
    ),
    "Endpoints' marker": (_endpoints, "Offline.performance.lines: made by MLPerf Endpoints"),
    "Endpoints' files": (_endpoints_files, "made by MLPerf Endpoints (result_summary.json)"),
    "an unknown round": (_unknown_round, "round: unknown by the seeds in the logs"),
    "a key stated before the real one": (
        _append(_detail("Offline"), LINE),
        "Offline.performance.lines: effective_min_duration_ms stated twice",
    ),
    "another first line": (_first(_detail("Offline"), "# note\n"), "first line does not begin with :::MLLOG"),
    "a cut line": (
        _append(_detail("Offline"), ':::MLLOG {"key"\n'),
        "Offline.performance.lines: 1 broken line",
    ),
    "a summary that says otherwise": (
        _append(lambda f: f.performance("Offline") / logs.SUMMARY, "Samples per second: 99\n"),
        "the summary says Samples per second: 99, the detail log result_samples_per_second 42.4",
    ),
    "129 tokens on average": (
        _log("Offline", result_tokens_per_second=129 * 42.4),
        "129.00 tokens per sample, at most 128",
    ),
    "TEST06 of 129 tokens": (
        lambda f: trees.write_test06(f, "Offline", tokens=129),
        "Offline.test06.log: 100 records, 100 needed; sample 0: 129 tokens",
    ),
    "TEST06 in 64 bits": (
        lambda f: trees.write_test06(f, "Offline", width=8),
        "sample 0: 128 tokens logged as 64-bit integers",
    ),
    "NumPy's repr": (_edit(_accuracy, r"3051113", "np.int64(3051113)"), "gen_len written as np.int64(...)"),
    "a number that is none": (_edit(_accuracy, r"39\.06", "39.0.6"), "written as 39.0.6, which is no number"),
    "a score stated twice": (
        _first(_accuracy, "{'rouge1': '45.0'}\n"),
        "rouge1 stated as 45.0 and as 39.06: state it once",
    ),
    "a score that is not UTF-8": (
        lambda f: _accuracy(f).write_bytes(_accuracy(f).read_bytes() + b"\xff"),
        "accuracy.txt is not UTF-8",
    ),
    "an accuracy run over a part": (
        lambda f: folders.edit_detail(f.accuracy("Offline"), effective_accuracy_sample_count=24),
        "effective_accuracy_sample_count 24, expected 5000",
    ),
    "no performance log": (_remove(_detail("Offline")), "Offline.performance: no mlperf_log_detail.txt"),
    "broken measurements": (
        _write(lambda f: f.benchmark_folder / MEASURED, b"{"),
        "Offline.measurements: measurements.json: missing or empty",
    ),
    "no number of queries": (_log("Offline", effective_min_query_count=None), "Offline.min_queries"),
    "a list where a number belongs": (
        _log("Offline", effective_performance_sample_count=[]),
        "Offline.performance.samples: qsl_reported_total_count 5000, effective_performance_sample_count []",
    ),
    "a result of 0": (_log("Offline", result_samples_per_second=0), "Offline.figures"),
}  # fmt: skip
# The same of a closed datacenter tree.
CLOSED_TREES: dict[str, tuple[Attack, str]] = {
    "a scenario in lower case and one missing": (
        lambda f: (_rename("Offline", "offline")(f), _remove(lambda g: g.results("Server"))(f)),
        "missing: Server or Interactive",
    ),
    "NumPy's repr": (
        _edit(_accuracy, "8167644", "np.int64(8167644)"),
        "Offline.accuracy.gen_len: written as np.int64(...), which MLCommons' checker cannot read",
    ),
    "TEST06 that only says complete": (
        _write(lambda f: f.test06("Server") / "verify_accuracy.txt", b"TEST06 verification complete\n"),
        "Server.test06.text",
    ),
    "a part of the set in Offline's query": (
        _log("Offline", effective_samples_per_query=1000),
        "Offline.samples_per_query: 1000 samples per query",
    ),
    "a target latency of a minute": (
        _log("Server", effective_target_latency_ns=60_000_000_000),
        "Server.target_latency",
    ),
    "a folder that is no benchmark": (
        _make(lambda f: f.benchmark_folder.with_name(".ipynb_checkpoints")),
        "box/.ipynb_checkpoints/folder: it is no benchmark",
    ),
}  # fmt: skip


CASES = [*(("open", name) for name in OPEN_TREES), *(("closed", name) for name in CLOSED_TREES)]


@pytest.mark.parametrize(("division", "what"), CASES)
def test_a_bent_tree_is_refused_by_name(division: str, what: str, tmp_path: Path) -> None:
    table = OPEN_TREES if division == "open" else CLOSED_TREES
    category = rules.EDGE if division == "open" else rules.DATACENTER
    layout = trees.make(tmp_path / "T", division, category)
    attack, words = table[what]
    attack(layout)
    code, text = check(layout.root, tmp_path)
    assert code == EXIT_INVALID, text
    ours = text[text.index("Our checks:") :]
    assert words in ours, text
    # Ours names the fault itself, and does not lean on MLCommons' refusal.
    assert "no check here says why" not in ours
    if checkout() and "Traceback" in text:
        assert "the checker crashed at" in text.partition("Traceback")[0]
