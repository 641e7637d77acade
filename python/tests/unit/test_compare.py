"""Two results side by side."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import report_samples as samples
import run_folders as folders

from mlperf_llama import rules
from mlperf_llama.errors import UsageError
from mlperf_llama.report import charts, compare, history
from mlperf_llama.report.compare import curves
from mlperf_llama.report.compare.sides import Group, Measured, Side, notes


def compared(first: Path, second: Path) -> str:
    return compare.text(*compare.groups([first], [second]))


def tree(root: Path, system: str, qps: float) -> Path:
    """A submission's benchmark folder with one Server result."""
    place = root / "closed" / "somebody" / "results" / system / "llama3.1-8b"
    figures = {
        **samples.LOGGED,
        "result_completed_samples_per_sec": qps,
        "result_completed_tokens_per_second": qps * 128,
        "result_query_count": 13368,
        "generated_samples_per_query": 1,
        "effective_target_qps": qps,
        "power_begin": "11-23-2026 12:00:00.000",
        "power_end": "11-23-2026 12:11:00.500",
    }
    samples.detail_log(place / "Server" / "performance" / "run_1", figures)
    accuracy = place / "Server" / "accuracy"
    accuracy.mkdir()
    (accuracy / "accuracy.txt").write_text(
        "{'rouge1': '38.7', 'rouge2': 15.9, 'gen_len': 8167644}\nhash=ab\n"
    )
    systems = root / "closed" / "somebody" / "systems"
    systems.mkdir(exist_ok=True)
    (systems / f"{system}.json").write_text(json.dumps({"accelerator_model_name": system, "framework": "x"}))
    return place


def test_equal_runs_are_comparable_with_ratio_one(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    folders.reseal(run)
    shutil.copytree(run.path, tmp_path / "again")
    text = compared(run.path, tmp_path / "again")
    assert "> ## ✅ Offline: A and B are equally fast (57.03 against 57.03 samples/s)." in text
    assert "| samples/s | 57.03 | 57.03 | 1.000 |" in text
    assert "No setting differs." in text
    assert "none" in text.split("What differs")[1]


def test_what_differs_is_listed_and_the_ratio_is_b_over_a(tmp_path: Path) -> None:
    a, b = samples.h100(tmp_path, "a"), samples.h100(tmp_path, "b")
    with samples.edited(b, "results.json") as results:
        results["scenarios"]["Offline"]["performance"]["samples_per_second"] = 114.06
        results["engine"]["settings"]["max_num_seqs"] = 1024
    for run in (a, b):
        folders.reseal(run)
    text = compared(a.path, b.path)
    assert "> ## ✅ Offline: B is 100% faster than A (114.1 against 57.03 samples/s); without repeats" in text
    assert "| samples/s | 57.03 | 114.06 | 2.000 |" in text
    assert r"Settings that differ: max\_num\_seqs 512 → 1024." in text
    differs = text.split("What differs")[1]
    assert r"| engine setting max\_num\_seqs | 512 | 1024 |" in differs and "rouge" not in differs


def test_an_edited_folder_is_named(tmp_path: Path) -> None:
    run = samples.h100(tmp_path)
    folders.reseal(run)
    shutil.copytree(run.path, tmp_path / "again")
    with samples.edited(run, "results.json") as results:
        results["scenarios"]["Offline"]["performance"]["samples_per_second"] = 114.06
    text = compared(run.path, tmp_path / "again")
    assert "✅" not in text and "A: Not as its stages sealed it: results.json changed" in text


def test_a_stand_in_and_a_real_run_are_not_comparable(tmp_path: Path) -> None:
    real = samples.h100(tmp_path)
    with samples.edited(real, "provenance.json") as provenance:
        provenance["model"]["sha256"] = provenance["dataset"]["sha256"] = "cd" * 32
    text = compared(samples.standin(tmp_path).path, real.path)
    top = text.split("## Side by side")[0]
    assert "❌ Not comparable" in top
    for reason in ("different models", "different data", "different numbers of samples", "stand-in"):
        assert reason in top
    assert "Server was run by 20261123T130000Z-offline-server alone." in text


def test_an_invalid_run_compares_with_nothing(tmp_path: Path) -> None:
    a, b = samples.h100(tmp_path, "a"), samples.h100(tmp_path, "b")
    with samples.edited(b, "results.json") as results:
        results["scenarios"]["Server"]["performance"]["loadgen_result"] = "INVALID"
    assert "b: LoadGen says INVALID of Server." in compared(a.path, b.path)


def test_two_submission_trees(tmp_path: Path) -> None:
    text = compared(tree(tmp_path / "1", "H100x1", 40.0), tree(tmp_path / "2", "H200x1", 50.0))
    assert "Server: A was asked for 40 queries/s and B was asked for 50 queries/s, so the rates say" in text
    assert "A has 4% room in TTFT; B has 4% room in TTFT." in text
    assert (
        "| samples/s | 40.00 | 50.00 | 1.250 |" in text
        and "| TTFT p99 ms | 1 911.0 | 1 911.0 | 1.000 |" in text
    )
    assert "| rouge1 | 38.7000 | 38.7000 | 1.000 |" in text
    assert r"| system accelerator\_model\_name | H100x1 | H200x1 |" in text


def test_a_tree_of_several_systems_names_each(tmp_path: Path) -> None:
    tree(tmp_path, "H100x1", 40.0)
    tree(tmp_path, "H200x1", 50.0)
    side = compare.read(tmp_path)
    assert set(side.scenarios) == {"H100x1/llama3.1-8b Server", "H200x1/llama3.1-8b Server"}


def test_a_run_and_a_tree(tmp_path: Path) -> None:
    text = compared(samples.h100(tmp_path).path, tree(tmp_path, "H200x1", 50.0))
    assert "| samples/s | 46.61 | 50.00 | 1.073 |" in text
    assert "Offline was run by" in text


def repeats(root: Path, letter: str, rates: list[float], **server: float) -> list[Path]:
    """Runs of one machine that differ in their Offline speed and Server's figures alone."""
    paths = []
    for number, rate in enumerate(rates):
        made = samples.h100(root, f"{letter}{number}")
        with samples.edited(made, "results.json") as results:
            scenarios = results["scenarios"]
            scenarios["Offline"]["performance"]["samples_per_second"] = rate
            scenarios["Server"]["performance"].update(server)
        paths.append(made.path)
    return paths


def test_repeats_say_how_much_is_noise(tmp_path: Path) -> None:
    """A: 57, 57.6; B: 41, 41.4. Pooled deviation 0.361, two errors of the difference 0.721 or 1.26% of A."""
    groups = compare.groups(repeats(tmp_path, "a", [57.0, 57.6]), repeats(tmp_path, "b", [41.0, 41.4]))
    text = compare.text(*groups)
    assert (
        "B is 28% slower than A (41.20 against 57.30 samples/s), beyond the noise of repeats of 1.3%." in text
    )
    assert "| samples/s | 57.30 | 41.20 | 0.719 | ±1.3% |" in text


def test_what_several_results_have_in_common_is_told_once() -> None:
    both, one = "The engine is the fake one.", "The run was shortened."
    first = Group("A", (Side("a0", notes=[both]), Side("a1", notes=[both, one])))
    second = Group("B", (Side("b0", notes=[both, one]),))
    assert notes(first, second) == [f"A and B: {both}", f"B and a1: {one}"]


def test_where_results_lie_is_no_difference_of_settings() -> None:
    first = Side("a0", facts={"setting results_dir": "/x", "setting samples": 24})
    second = Side("b0", facts={"setting results_dir": "/y", "setting samples": 64})
    text = compare.text(Group("A", (first,)), Group("B", (second,)))
    assert "Settings that differ: samples 24 → 64." in text


def test_a_difference_within_the_noise_is_called_none(tmp_path: Path) -> None:
    groups = compare.groups(repeats(tmp_path, "a", [57.0, 60.0]), repeats(tmp_path, "b", [58.0, 59.5]))
    assert "within the noise of repeats of 5.7%: no difference is shown." in compare.text(*groups)


def test_several_folders_are_repeats_with_commas_between_them(tmp_path: Path) -> None:
    a, b = repeats(tmp_path, "a", [57.0, 57.6])
    assert compare.folders(f"{a},{b}") == [a, b] and compare.folders(str(a)) == [a]
    odd = tmp_path / "odd, name"
    odd.mkdir()
    assert compare.folders(str(odd)) == [odd]
    assert "drawn in" not in compared(a, b), "charts stand on the page alone"


def test_repeats_of_another_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"A: expected repeats of one run, found .* different numbers"):
        compare.groups([samples.h100(tmp_path).path, samples.standin(tmp_path).path], [])


def test_at_the_same_load_latencies_are_compared(tmp_path: Path) -> None:
    """Both were asked for 47 queries/s: the rate is no result."""
    a, b = (
        repeats(tmp_path, "a", [57.0]),
        repeats(tmp_path, "b", [57.0], ttft_p99_ms=1682.0, tpot_p99_ms=26.0),
    )
    text = compare.text(*compare.groups(a, b))
    assert (
        "Server at the same 47 queries/s: TTFT p99 12% lower in B (1 682 against 1 911 ms, limit 2000)"
        in text
    )
    assert "TPOT p99 3.6% higher in B (26.00 against 25.10 ms, limit 100)." in text


def test_tunings_are_compared_by_what_they_found(tmp_path: Path) -> None:
    runs = [samples.h100(tmp_path, name) for name in ("a", "b")]
    for made, answer in zip(runs, (47.6, 51.5), strict=True):
        search = {"probes": [], "answer": answer, "minutes": 12.0}
        folders.write_json(made, "tuning.json", {"search": ["qps"], "scenarios": {"Server": search}})
    text = compared(runs[0].path, runs[1].path)
    assert "Server, as tuned: B holds 8.2% more load than A (51.50 against 47.60 queries/s)." in text


def test_accuracy_stands_beside_speed_with_its_error(tmp_path: Path) -> None:
    runs = [samples.h100(tmp_path, name) for name in ("a", "b")]
    for made, rouge1 in zip(runs, (38.74, 38.20), strict=True):
        with samples.edited(made, "results.json") as results:
            accuracy = results["scenarios"]["Offline"]["accuracy"]
            accuracy.update(rouge1=rouge1, standard_errors={"rouge1": 0.11})
    text = compared(runs[0].path, runs[1].path)
    assert "Offline, ROUGE-1 of B and A: 38.20 ± 0.11 against 38.74 ± 0.11" in text
    assert "the difference of -0.54 is beyond two standard errors (0.31)" in text
    assert "Server, ROUGE-1 of B and A: 38.74 against 38.74; the standard error is not recorded" in text


def test_the_comparison_as_json(tmp_path: Path) -> None:
    groups = compare.groups(repeats(tmp_path, "a", [57.0, 57.6]), repeats(tmp_path, "b", [41.0, 41.4]))
    data = json.loads(compare.summary(*groups))
    assert data["comparable"] and data["a"] == ["a0", "a1"]
    speed = data["scenarios"]["Offline"]["figures"]["samples_per_second"]
    assert speed["a"] == [57.0, 57.6] and speed["beyond_noise"]
    assert speed["change"] == pytest.approx(41.2 / 57.3 - 1)
    assert data["scenarios"]["Server"]["requested_qps"] == {"a": [47.0, 47.0], "b": [47.0, 47.0]}


def test_the_page_draws_both_curves_over_each_other(tmp_path: Path) -> None:
    runs = [samples.h100(tmp_path, name) for name in ("a", "b")]
    page = tmp_path / "page.html"
    compare.write_page(page, *compare.groups([runs[0].path], [runs[1].path]))
    text = page.read_text(encoding="utf-8")
    figure = text.split("<figcaption>Offline: throughput over time")[1].split("</figure>")[0]
    assert 'class="series one" points=' in figure and 'class="series two" points=' in figure
    assert ">A: a</span>" in figure and ">B: b</span>" in figure
    assert "Server: time to first token by percentile" in text and "limit of the 99th: 2000 ms" in text


def test_the_history_of_a_machine(tmp_path: Path) -> None:
    repeats(tmp_path, "a", [57.0, 57.6])
    samples.standin(tmp_path)
    samples.interrupted(tmp_path)
    path = history.write(tmp_path)
    text = path.read_text(encoding="utf-8")
    assert path == tmp_path / "history.html"
    assert "<h2>1 x NVIDIA H100 80GB HBM3</h2>" in text and "<h2>AMD EPYC</h2>" in text
    assert "3 runs with a measured speed" in text and "Offline: samples/s by day" in text
    assert 'class="mark good"' in text


def test_a_history_without_runs_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UsageError, match="expected run folders with a measured speed, found none"):
            history.write(folder)


@pytest.mark.parametrize("name", ["missing", "empty", "file"])
def test_what_is_no_result_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a run folder or a submission tree"):
        compared(tmp_path / name, tmp_path / name)


def test_a_percentile_that_was_not_logged_leaves_its_place_empty() -> None:
    detail = {charts.TTFT_KEY.format(p): 1e8 for p in charts.LOGGED.values() if p != "95.00"}
    sides = [Side(name, {rules.OFFLINE: Measured(detail=detail)}) for name in ("first", "second")]
    (drawn,) = curves.charts(Group("A", (sides[0],)), Group("B", (sides[1],)))
    points = re.findall(r'<polyline class="series one" points="([^"]+)"', drawn.svg)[0].split()
    x = [float(point.split(",")[0]) for point in points]
    steps = [(b - a) / (x[1] - x[0]) for a, b in pairwise(x)]
    assert steps == pytest.approx([1, 2, 1, 1], abs=0.01)
