"""MLPerf Endpoints: the points of a curve, the client's files, and the client run point by point."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from mlperf_llama import __main__, config, curve, rules
from mlperf_llama.curve import client_file, plan, points, runs
from mlperf_llama.errors import BrokeError, MissingError, UsageError
from mlperf_llama.records.schema import Gpu

H100 = Gpu(index=0, name="NVIDIA H100 80GB HBM3", memory_gib=80.0)
# What the client leaves: complete, 100 tokens/s.
CLIENT = """#!/usr/bin/env python3
import json, os, sys
from pathlib import Path
assert sys.argv[1:4] == ["benchmark", "from-config", "--config"]
report = Path(json.loads(Path(sys.argv[4]).read_text())["report_dir"])
with open(os.environ["CALLS"], "a") as calls:
    calls.write(report.name + " " + " ".join(sys.argv[5:]) + "\\n")
if report.name == os.environ.get("FAILS"):
    sys.exit(7)
for name, content in (
    ("performance/result_summary.json",
     {"complete": True, "duration_ns": 2e9, "output_sequence_lengths": {"total": 200}}),
    ("accuracy/accuracy_results.json", {}),
):
    if name.startswith("performance") or "both" in sys.argv:
        (report / name).parent.mkdir(parents=True, exist_ok=True)
        (report / name).write_text(json.dumps(content))
"""


def load(**values: str) -> config.Config:
    return config.load(values, {})


def test_the_regions_are_those_of_the_rules() -> None:
    # endpoints_rules.md, appendix B; round() rounds halves to even.
    assert points.boundaries(16, 1024) == {
        points.ULTRA_LOW: (1, 16),
        points.LOW: (17, 26),
        points.MEDIUM: (27, 117),
        points.HIGH: (118, 1024),
    }


@pytest.mark.parametrize("lowest", [1, 2, 16, 32])
def test_every_region_has_a_point_and_the_ends_are_measured(lowest: int) -> None:
    for highest in (*range(lowest + 31, 200), 256, 800, 1024, 4096, 13368):
        if highest <= points.LOWEST_REGION_END:
            continue
        levels = points.levels(lowest, highest)
        assert len(set(levels)) == 7
        assert (levels[0], levels[-1]) == (lowest, highest)
        assert {points.region_of(level, lowest, highest) for level in levels} == set(points.REGIONS)


@pytest.mark.parametrize("value", ["0-100", "33-100", "16-32", "30-35"])
def test_a_curve_that_the_rules_do_not_know_is_refused(value: str) -> None:
    lowest, highest = map(int, value.split("-"))
    with pytest.raises(UsageError, match="CONCURRENCY: expected"):
        points.levels(lowest, highest)


@pytest.mark.parametrize("value", ["16", "a-b", "-5", "16-"])
def test_the_setting_is_two_numbers(value: str) -> None:
    with pytest.raises(UsageError, match="concurrency: expected LOWEST-HIGHEST"):
        load(CONCURRENCY=value)


def test_the_plan_keeps_the_rules() -> None:
    planned = plan.plan(load(), H100)
    assert len(planned.points) == 8
    assert planned.points[-1].concurrency == 13368
    # One accuracy run for each region and for Offline.
    scored = [point.region for point in planned.points if point.accuracy]
    assert sorted(scored) == sorted([*points.REGIONS, points.OFFLINE])
    for point in planned.points:
        assert point.samples % 13368 == 0
        assert point.min_duration_s == (600 if point.region == points.ULTRA_LOW else 1200)
        assert point.seconds is not None
        assert point.seconds * 1.001 >= point.min_duration_s
    assert planned.hours is not None
    assert 2 < planned.hours < 48
    assert max(point.concurrency for point in planned.points[:-1]) == 800


def test_where_the_card_is_not_known_the_time_is_not_made_up() -> None:
    planned = plan.plan(load(CONCURRENCY="1-64"), None)
    assert planned.hours is None
    assert {point.samples for point in planned.points} == {5 * 13368}
    assert "not known before it is measured" in plan.markdown(planned)


def test_the_client_s_file_says_what_the_rules_ask(tmp_path: Path) -> None:
    planned = curve.make(load(SERVE_ADDRESS="127.0.0.1:8123"), [H100], tmp_path)
    content = json.loads((tmp_path / f"{planned.points[0].name}.yaml").read_text())
    assert content["settings"]["load_pattern"] == {"type": "concurrency", "target_concurrency": 16}
    assert content["settings"]["client"]["stream_all_chunks"] is True
    assert content["settings"]["runtime"]["n_samples_to_issue"] == planned.points[0].samples
    assert content["endpoint_config"]["endpoints"] == ["http://127.0.0.1:8123"]
    model = content["model_params"]
    assert (model["temperature"], model["max_new_tokens"]) == (0.0, rules.MAX_NEW_TOKENS)
    assert [one["type"] for one in content["datasets"]] == ["accuracy", "performance"]
    offline = json.loads((tmp_path / "offline.yaml").read_text())
    assert offline["settings"]["load_pattern"] == {"type": "max_throughput"}
    assert str(client_file.SCHEDULER_SEED) in (tmp_path / "offline.yaml").read_text()


def test_a_curve_has_one_configuration(tmp_path: Path) -> None:
    curve.make(load(), [H100], tmp_path)
    curve.make(load(), [H100], tmp_path)
    with pytest.raises(UsageError, match="a curve has one configuration"):
        curve.make(load(SERVE_ADDRESS="127.0.0.1:9"), [H100], tmp_path)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the client's calls."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command = folder / runs.CLIENT
    command.write_text(CLIENT)
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def test_points_are_run_once_and_a_curve_is_gone_on_with(
    client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "curve"
    planned = curve.make(load(), [H100], folder)
    third = planned.points[2].name
    monkeypatch.setenv("FAILS", third)
    with pytest.raises(BrokeError, match=r"exit code 7; run this again"):
        curve.run(planned, folder)
    assert not (folder / curve.MEASURED).exists()
    monkeypatch.delenv("FAILS")
    curve.run(planned, folder)
    curve.run(planned, folder)
    calls = [line.split()[0] for line in client.read_text().splitlines()]
    assert (
        calls == [point.name for point in planned.points][:3] + [point.name for point in planned.points][2:]
    )
    both = {line.split()[0] for line in client.read_text().splitlines() if "--mode both" in line}
    assert both == {point.name for point in planned.points if point.accuracy}
    assert (folder / curve.MEASURED).read_text().count("| 100.0 |") == 8


def test_without_the_client_there_is_a_plan_and_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    planned = curve.make(load(), [], tmp_path / "curve")
    with pytest.raises(MissingError, match="a checkout of mlcommons/endpoints"):
        curve.run(planned, tmp_path / "curve")
    for name in [name for name in os.environ if name.startswith("MLPERF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLPERF_ENV_FILE", "/dev/null")
    code = __main__.main(["endpoints", "--results-dir", str(tmp_path / "results")])
    assert code == 3
    told = capsys.readouterr().err
    assert "8 points" in told
    assert runs.CLIENT in told
