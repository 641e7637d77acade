"""Settings: the table, Config, .env.example, and reading them with the right errors."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest

from mlperf_llama import config, rules
from mlperf_llama.cli import env_example
from mlperf_llama.config import Config
from mlperf_llama.engine.hopper import cubins
from mlperf_llama.errors import UsageError
from mlperf_llama.records import scales
from mlperf_llama.settings import (
    BY_NAME,
    INTERNAL,
    PREFIX,
    RENAMED,
    SECRET,
    SECRETS,
    SHELL,
    SHELL_NAMES,
    TABLE,
    TESTS,
    Setting,
)

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = (ROOT / ".env.example").read_text()
LINE = re.compile(r"^#?([A-Z0-9_]+)=(.*)$", re.MULTILINE)


def load(**env: str) -> Config:
    return config.load({}, {PREFIX + name: value for name, value in env.items()})


def test_the_example_is_written_from_the_table() -> None:
    remedy = "./entrypoint.sh env-example >.env.example"
    assert env_example.render() == EXAMPLE, remedy
    assert remedy in EXAMPLE


def test_the_example_names_every_setting_once() -> None:
    names = [name for name, _ in LINE.findall(EXAMPLE)]
    expected = [PREFIX + name for name in [*BY_NAME, *SHELL_NAMES]] + list(SECRETS)
    assert sorted(names) == sorted(expected)


def test_the_example_shows_the_defaults() -> None:
    shown = dict(LINE.findall(EXAMPLE))
    assert {s.name: shown[s.env_name] for s in TABLE} == {s.name: s.default for s in TABLE}


def test_every_line_of_the_example_has_its_meaning_above() -> None:
    lines = EXAMPLE.splitlines()
    for number, line in enumerate(lines):
        assert len(line) <= 100, line
        if LINE.match(line):
            assert re.match(r"# \S", lines[number - 1]), line


@pytest.mark.parametrize("setting", [*TABLE, *SHELL.settings, *SECRET.settings], ids=lambda s: s.name)
def test_every_setting_has_its_meaning_and_choices(setting: Setting) -> None:
    assert re.fullmatch(r"[A-Z].{10,}[.]", setting.meaning)
    assert all(choice in setting.explanation for choice in setting.choices)
    for choice in setting.choices:
        assert setting.read(choice) in (choice, (choice,))


def test_what_only_tests_set_stands_last() -> None:
    title, names = EXAMPLE.rsplit("# --- ", 1)[1].split("\n", 1)
    assert title == TESTS.title
    assert [name for name, _ in LINE.findall(names)] == ["MLPERF_FAKE"]


def test_a_copied_example_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE)
    assert config.read_env_file(tmp_path / ".env") == {}


def test_an_example_with_every_line_in_force_is_the_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(LINE.sub(r"\1=\2", EXAMPLE))
    values = config.read_env_file(tmp_path / ".env")
    assert len(values) == len(LINE.findall(EXAMPLE))
    assert config.load({}, values) == load()


def test_config_has_a_field_for_every_setting() -> None:
    assert [f.name for f in fields(Config)] == [s.name.lower() for s in TABLE]


def test_config_survives_its_file() -> None:
    made = load(SCENARIO="all", ENGINE_ARGS='{"enforce_eager": true}', SAMPLES="8")
    assert Config.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_config_of_an_earlier_version_is_read() -> None:
    saved = load(SCENARIO="all", SOURCE_STALL_S="9", SOURCE_TIMEOUT_S="70").to_json()
    earlier = {key: value for key, value in saved.items() if key not in ("search", "probe_s", "samples")}
    earlier["rung_stall_s"] = earlier.pop("source_stall_s")
    earlier["rung_timeout_s"] = earlier.pop("source_timeout_s")
    earlier |= {"schema_version": 1, "withdrawn": "x"}
    before = dict(earlier)
    config_read = Config.from_json(earlier)
    assert config_read == load(SCENARIO="all", SOURCE_STALL_S="9", SOURCE_TIMEOUT_S="70")
    assert (config_read.search, config_read.probe_s, config_read.samples) == (("qps",), 90.0, None)
    assert earlier == before


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
        ("SOURCE_STALL_S", "31"),
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


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_earlier_name_is_an_error_that_tells_the_new_one(old: str, new: str) -> None:
    assert old not in BY_NAME and new in BY_NAME
    with pytest.raises(UsageError, match=rf"^MLPERF_{old} was renamed: set MLPERF_{new}$"):
        load(**{old: "1"})
    old_flag, new_flag = (f"--{name.lower().replace('_', '-')}" for name in (old, new))
    with pytest.raises(UsageError, match=f"^{old_flag} was renamed: give {new_flag}$"):
        config.load({old: "1"}, {})


def test_names_of_scripts_and_image_are_known() -> None:
    for name in (*SHELL_NAMES, *config.IMAGE_NAMES):
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
    resolved = config.load({}, config.environment())
    assert (resolved.seed, resolved.samples) == (2, 5)


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


def test_what_the_package_tells_its_own_processes_is_no_setting_and_no_fault() -> None:
    """A process that has prepared vLLM's environment reads its settings again."""
    own = [scales.VARIABLE, cubins.VARIABLE]
    assert all(name.startswith(INTERNAL) for name in own)
    assert config.load({}, dict.fromkeys(own, "/somewhere")) == config.load({}, {})
    assert not [name for name in BY_NAME if f"{PREFIX}{name}".startswith(INTERNAL)]
