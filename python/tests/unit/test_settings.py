"""Settings: the table, Config, .env.example, and reading them with the right errors."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from mlperf_llama import config, rules
from mlperf_llama.config import Config
from mlperf_llama.errors import UsageError
from mlperf_llama.settings import BY_NAME, PREFIX, SECRETS, TABLE

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = (ROOT / ".env.example").read_text()
LINE = re.compile(r"^#?([A-Z0-9_]+)=(.*)$", re.MULTILINE)


def load(**env: str) -> Config:
    return config.load({}, {PREFIX + name: value for name, value in env.items()})


def test_the_example_names_every_setting_once() -> None:
    names = [name for name, _ in LINE.findall(EXAMPLE)]
    expected = [PREFIX + name for name in [*BY_NAME, *config.SHELL_NAMES]] + list(SECRETS)
    assert sorted(names) == sorted(expected)


def test_the_example_shows_the_defaults() -> None:
    shown = dict(LINE.findall(EXAMPLE))
    assert {s.name: shown[s.env_name] for s in TABLE} == {s.name: s.default for s in TABLE}


def test_every_line_of_the_example_has_its_meaning_above() -> None:
    lines = EXAMPLE.splitlines()
    for number, line in enumerate(lines):
        if LINE.match(line) and not line.startswith("#CF_ACCESS_CLIENT_SECRET"):
            assert re.match(r"# \S", lines[number - 1]), line


def test_a_copied_example_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE)
    assert config.read_env_file(tmp_path / ".env") == {}


def test_an_example_with_every_line_in_force_is_the_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(LINE.sub(r"\1=\2", EXAMPLE))
    found = config.read_env_file(tmp_path / ".env")
    assert len(found) == len(LINE.findall(EXAMPLE))
    assert config.load({}, found) == load()


def test_config_has_a_field_for_every_setting() -> None:
    assert [f.name for f in fields(Config)] == [s.name.lower() for s in TABLE]


def test_config_survives_its_file() -> None:
    found = load(SCENARIO="all", ENGINE_ARGS='{"enforce_eager": true}', SAMPLES="8")
    assert Config.from_json(found.to_json()) == found


def test_flags_beat_the_environment() -> None:
    assert config.load({"SAMPLES": "7"}, {"MLPERF_SAMPLES": "8"}).samples == 7
    assert load(SAMPLES="8").samples == 8
    assert load(SAMPLES="").samples is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCENARIO", "Offlin"),
        ("SCENARIO", ","),
        ("MODE", "speed"),
        ("ROUND", "v4.0"),
        ("CATEGORY", "cloud"),
        ("ENGINE", "trt"),
        ("SAMPLES", "-1"),
        ("SAMPLES", "0"),
        ("SAMPLES", "many"),
        ("SAMPLES", "1.5"),
        ("SAMPLES", "13369"),
        ("TARGET_QPS", "0"),
        ("TARGET_QPS", "nan"),
        ("DURATION_S", "-0.1"),
        ("DTYPE", "int3"),
        ("MAX_NUM_BATCHED_TOKENS", "131072"),
        ("GPU_MEMORY_UTILIZATION", "1.5"),
        ("TENSOR_PARALLEL", "0"),
        ("ENGINE_ARGS", "[1]"),
        ("ENGINE_ARGS", "{"),
        ("RUNG_STALL_S", "31"),
        ("DIVISION", "ajar"),
    ],
)
def test_a_wrong_value_names_the_setting_and_what_was_expected(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=rf"{name}: expected .+, found .*{re.escape(value)}"):
        load(**{name: value})


@pytest.mark.parametrize(
    ("name", "hint"), [("SAMPELS", "did you mean MLPERF_SAMPLES"), ("QUUX", r"\.env\.example")]
)
def test_an_unknown_setting_is_an_error_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"MLPERF_{name} is not a setting; .*{hint}"):
        load(**{name: "1"})


def test_names_of_scripts_and_image_are_known() -> None:
    for name in (*config.SHELL_NAMES, *config.IMAGE_NAMES):
        assert load(**{name: "1"}) == load()


@pytest.mark.parametrize(("category", "scenarios"), rules.CATEGORY_SCENARIOS.items())
def test_all_scenarios_are_those_of_the_category(category: str, scenarios: tuple[str, ...]) -> None:
    assert load(SCENARIO="all", CATEGORY=category).scenario == scenarios


def test_several_scenarios_in_the_benchmarks_order() -> None:
    assert load(SCENARIO="server, OFFLINE").scenario == ("Offline", "Server")


def test_the_edge_set_is_smaller() -> None:
    with pytest.raises(UsageError, match="SAMPLES: expected at most 5000"):
        load(CATEGORY="edge", SAMPLES="5001")


@pytest.mark.parametrize("line", ["SAMPLES", "a-b=1", "=1"])
def test_a_broken_env_file_names_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"# fine\nMLPERF_SEED=1\n{line}\n")
    with pytest.raises(UsageError, match=re.escape(f"{path}:3: expected NAME=value")):
        config.read_env_file(path)


def test_the_environment_beats_the_env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.env"
    path.write_text("MLPERF_SEED=1\nMLPERF_SAMPLES = 5\n")
    monkeypatch.setenv("MLPERF_ENV_FILE", str(path))
    monkeypatch.setenv("MLPERF_SEED", "2")
    found = config.load({}, config.environment())
    assert (found.seed, found.samples) == (2, 5)


def test_a_secret_may_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("hf_abc\n")
    assert config.secret("HF_TOKEN", {"HF_TOKEN_FILE": str(path)}) == "hf_abc"
    assert config.secret("HF_TOKEN", {"HF_TOKEN": "x", "HF_TOKEN_FILE": str(path)}) == "x"
    assert config.secret("HF_TOKEN", {}) is None
    with pytest.raises(UsageError, match="HF_TOKEN_FILE: expected a readable file"):
        config.secret("HF_TOKEN", {"HF_TOKEN_FILE": str(tmp_path / "none")})


def test_no_secret_reaches_the_saved_settings() -> None:
    secrets = dict.fromkeys(SECRETS, "s3cr3t")
    assert "s3cr3t" not in str(config.load({}, secrets).to_json())
