"""Reads flags, environment and .env once, checks them, gives a frozen Config.

Flags beat the environment, the environment beats .env. The only reader of
os.environ in the package. A secret may also come as a file (NAME_FILE).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from . import rules
from .errors import UsageError
from .settings import BY_NAME, PREFIX, SECRETS, TABLE

# Settings of Make and the scripts, which share the prefix and the .env file.
SHELL_NAMES = ("CONTAINER", "IMAGE", "TARGET", "DOCKER", "CA_BUNDLE", "ENV_FILE", "VENV", "DEBUG")
# Written into an image by its build, for system.json; nobody's setting.
IMAGE_NAMES = ("GIT_COMMIT", "IMAGE_ID")


@dataclass(frozen=True)
class Config:
    """Every setting, resolved; None where the user left it to the pipeline."""

    scenario: tuple[str, ...]
    mode: tuple[str, ...]
    round: str
    category: str
    dataset_source: str
    model: str
    engine: str
    preset: str
    samples: int | None
    duration_s: float | None
    target_qps: float | None
    expected_latency_ms: float | None
    search: tuple[str, ...]
    probe_s: float
    dtype: str
    quantization: str
    kv_cache_dtype: str
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    gpu_memory_utilization: float | None
    tensor_parallel: int
    engine_args: dict[str, Any]
    ignore_eos: bool
    fake: dict[str, Any]
    seed: int
    score_workers: int | None
    results_dir: str
    cache_dir: str
    rung_stall_s: float
    rung_timeout_s: float
    mlc_repo: str
    r2_base_url: str
    r2_model_url: str
    submitter: str
    division: str
    system_file: str
    inference_dir: str

    def to_json(self) -> dict[str, Any]:
        """Plain data for config.json; holds no secret."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Config:
        # A setting that came later than the run has its default.
        defaults = {s.name.lower(): s.read(s.default) for s in TABLE}
        known = {f.name: data.get(f.name, defaults[f.name]) for f in fields(Config)}
        known["scenario"] = tuple(known["scenario"])
        known["mode"] = tuple(known["mode"])
        known["search"] = tuple(known["search"])
        return Config(**known)

    @property
    def full_sample_count(self) -> int:
        return rules.SAMPLE_COUNT[self.category]

    @property
    def cache_path(self) -> Path:
        return Path(self.cache_dir).expanduser()


def read_env_file(path: Path) -> dict[str, str]:
    """NAME=value lines, no quotes, no expansion; # starts a comment line."""
    found: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected NAME=value lines, could not read it: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, sign, value = line.partition("=")
        if not sign or not name.strip().isidentifier():
            raise UsageError(f"{path}:{number}: expected NAME=value, found {line.strip()!r}")
        found[name.strip()] = value.strip()
    return found


def environment() -> dict[str, str]:
    """.env (or the file MLPERF_ENV_FILE names) with the process's environment over it."""
    path = Path(os.environ.get(PREFIX + "ENV_FILE", ".env"))
    base = read_env_file(path) if path.is_file() else {}
    return {**base, **os.environ}


def _unknown(name: str) -> UsageError:
    near = difflib.get_close_matches(name.removeprefix(PREFIX), [*BY_NAME, *SHELL_NAMES], 1)
    hint = f"; did you mean {PREFIX}{near[0]}?" if near else "; .env.example lists all settings"
    return UsageError(f"{name} is not a setting{hint}")


def load(flags: Mapping[str, str], env: Mapping[str, str]) -> Config:
    """Resolve every setting. `flags` and `env` map names to text; flags have no prefix."""
    for name in env:
        bare = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and bare not in BY_NAME and bare not in SHELL_NAMES + IMAGE_NAMES:
            raise _unknown(name)
    values: dict[str, Any] = {}
    for setting in TABLE:
        given = flags.get(setting.name) or env.get(setting.env_name) or ""
        origin = setting.flag if flags.get(setting.name) else setting.env_name
        try:
            values[setting.name.lower()] = setting.read(given.strip() or setting.default)
        except ValueError as error:
            raise UsageError(f"{origin}: expected {error}, found {given!r}") from None
    if (flags.get("SCENARIO") or env.get(PREFIX + "SCENARIO") or "").strip().lower() == "all":
        values["scenario"] = rules.CATEGORY_SCENARIOS[values["category"]]
    config = Config(**values)
    allowed = rules.CATEGORY_SCENARIOS[config.category]
    outside = [s for s in config.scenario if s not in allowed]
    if outside:
        other = rules.EDGE if config.category == rules.DATACENTER else rules.DATACENTER
        raise UsageError(
            f"SCENARIO: expected {', '.join(allowed)} for category {config.category}, "
            f"found {', '.join(outside)}; CATEGORY={other} has other scenarios"
        )
    if config.samples is not None and config.samples > config.full_sample_count:
        raise UsageError(
            f"SAMPLES: expected at most {config.full_sample_count} for category "
            f"{config.category}, found {config.samples}"
        )
    return config


def secret(name: str, env: Mapping[str, str]) -> str | None:
    """A secret's value from NAME or from the file that NAME_FILE names; None if absent."""
    if name not in SECRETS:
        raise KeyError(name)
    if env.get(name):
        return env[name]
    path = env.get(name + "_FILE")
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name}_FILE: expected a readable file, found {path}: {error}") from None
