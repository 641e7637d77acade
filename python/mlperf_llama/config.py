"""Reads flags, environment and .env once, checks them, gives a frozen Config.

Flags beat the environment, the environment beats .env. Nothing else in the package reads
a setting out of os.environ. A secret may also come as a file (NAME_FILE); `secret` is
its only reader, and `user_info` that of an address's user and password.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from . import rules, settings
from .credentials import SECRET_NAMES
from .credentials import secret as secret
from .credentials import user_info as user_info
from .errors import UsageError
from .settings import BY_NAME, INTERNAL, PREFIX, RENAMED, SHELL_NAMES, TABLE

# Written into an image by its build, for system.json; nobody's setting.
IMAGE_NAMES = ("GIT_COMMIT", "IMAGE_ID")


@dataclass(frozen=True)
class Config:
    """Every setting, resolved; None where the user left it to the pipeline."""

    FILE: ClassVar[str] = "config.json"
    scenario: tuple[str, ...]
    mode: tuple[str, ...]
    round: str
    category: str
    samples: int | None
    duration_s: float | None
    target_qps: float | None
    expected_latency_ms: float | None
    search: tuple[str, ...]
    probe_s: float
    dataset_source: str
    model: str
    calibration: str
    source_stall_s: float
    source_timeout_s: float
    mlc_repo: str
    r2_base_url: str
    r2_model_url: str
    engine: str
    preset: str
    dtype: str
    quantization: str
    scales: str
    kv_cache_dtype: str
    max_num_seqs: int | None
    max_num_batched_tokens: int | None
    gpu_memory_utilization: float | None
    gpus: int | tuple[int, ...] | None
    tensor_parallel: int
    hosts: str
    head_address: str | None
    serve_address: str
    concurrency: tuple[int, int] | None
    engine_args: dict[str, object]
    ignore_eos: bool
    seed: int
    score_workers: int | None
    results_dir: str
    cache_dir: str
    verbosity: str
    submitter: str
    division: str
    system_file: str
    price_per_hour: float | None
    inference_dir: str
    fake: dict[str, object]

    def to_json(self) -> dict[str, object]:
        """Plain data for config.json; holds no secret."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, object]) -> Config:
        """Read config.json, also one of an earlier version: what it lacks is at its default, what is
        unknown here is left out."""
        saved = current_names(data)
        values: dict[str, Any] = {}
        for setting in TABLE:
            key = setting.name.lower()
            value = saved[key] if key in saved else setting.read(setting.default)
            # JSON has no tuples; no setting's value is a list.
            values[key] = tuple(value) if isinstance(value, list) else value
        return Config(**values)

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Addresses of the servers that are the engine; none where one is loaded here."""
        return tuple(self.engine.split(",")) if "://" in self.engine else ()

    @property
    def full_sample_count(self) -> int:
        return rules.SAMPLE_COUNT[self.category]

    @property
    def cache_path(self) -> Path:
        return Path(self.cache_dir).expanduser()


def verbosity(env: Mapping[str, str], flags: Mapping[str, str], default: str = settings.NORMAL) -> str:
    """How much is said, where no Config is yet; what `load` would refuse is the default."""
    value = (flags.get("VERBOSITY") or env.get(f"{PREFIX}VERBOSITY") or default).strip().lower()
    return value if value in BY_NAME["VERBOSITY"].choices else default


def current_names(data: Mapping[str, object]) -> dict[str, object]:
    """The entries of a config.json, renamed settings under the names of today."""
    today = {old.lower(): new.lower() for old, new in RENAMED.items()}
    return {today.get(key, key): value for key, value in data.items()}


def read_env_file(path: Path) -> dict[str, str]:
    """NAME=value lines, no quotes, no expansion; # starts a comment line.

    A line that cannot be read may hold a secret: its fault is named, and nothing of it is shown.
    """
    values: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: expected NAME=value lines, could not read it: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, sign, value = line.partition("=")
        if not sign or not name.strip().isidentifier():
            raise UsageError(f"{path}:{number}: expected NAME=value, found {_fault_of(name, sign)}")
        if "\0" in value:
            raise UsageError(f"{path}:{number}: expected {name.strip()} as text, found a NUL character in it")
        values[name.strip()] = value.strip()
    return values


def _fault_of(name: str, sign: str) -> str:
    if not sign:
        return "a line without ="
    if not name.strip():
        return "no name before ="
    if name.split()[0] == "export":
        return "the word export before the name: take it out"
    return "a name with other characters than letters, digits and _"


def environment() -> dict[str, str]:
    """.env (or the file MLPERF_ENV_FILE names) with the process's environment over it."""
    path = Path(os.environ.get(PREFIX + "ENV_FILE", ".env"))
    base = read_env_file(path) if path.is_file() else {}
    return {**base, **os.environ}


def _check_names(flags: Mapping[str, str], env: Mapping[str, str]) -> None:
    """Refuse names that are no settings, and names that are settings no more."""
    for name in flags:
        if name in RENAMED:
            old, new = (f"--{n.lower().replace('_', '-')}" for n in (name, RENAMED[name]))
            raise UsageError(f"{old} was renamed: give {new}")
    for name in env:
        bare = name.removeprefix(PREFIX)
        if not name.startswith(PREFIX) or name.startswith(INTERNAL):
            continue
        if bare in BY_NAME or bare in SHELL_NAMES + IMAGE_NAMES:
            continue
        if bare in RENAMED:
            raise UsageError(f"{name} was renamed: set {PREFIX}{RENAMED[bare]}")
        if bare in SECRET_NAMES:
            raise UsageError(f"{name} is not a setting; a secret's name has no prefix: set {bare}")
        near = difflib.get_close_matches(bare, [*BY_NAME, *SHELL_NAMES], 1)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else "; .env.example lists all settings"
        raise UsageError(f"{name} is not a setting{hint}")


# What decides how an engine is loaded, and where.
OWN_ENGINE = (
    *("PRESET", "DTYPE", "QUANTIZATION", "SCALES", "KV_CACHE_DTYPE", "MAX_NUM_BATCHED_TOKENS"),
    *("GPU_MEMORY_UTILIZATION", "GPUS", "TENSOR_PARALLEL", "HOSTS", "HEAD_ADDRESS", "ENGINE_ARGS"),
)


def _at_default(config: Config, name: str) -> bool:
    setting = BY_NAME[name]
    return bool(getattr(config, name.lower()) == setting.read(setting.default))


def _check_together(config: Config) -> None:
    """What one setting allows another."""
    allowed = rules.CATEGORY_SCENARIOS[config.category]
    outside = [s for s in config.scenario if s not in allowed]
    if outside:
        other = rules.EDGE if config.category == rules.DATACENTER else rules.DATACENTER
        raise UsageError(
            f"SCENARIO: expected {', '.join(allowed)} for category {config.category}, "
            f"found {', '.join(outside)}; CATEGORY={other} has other scenarios"
        )
    if config.endpoints and "engine" in config.search:
        raise UsageError(
            f"SEARCH: expected qps alone with ENGINE={config.engine}, whose settings are its own; found "
            f"{','.join(config.search)}"
        )
    if config.endpoints and (own := [name for name in OWN_ENGINE if not _at_default(config, name)]):
        raise UsageError(
            f"{', '.join(own)}: expected no setting of an engine of this host with ENGINE={config.engine}, "
            "which has settings of its own: unset it"
        )
    if config.samples is not None and config.samples > config.full_sample_count:
        raise UsageError(
            f"SAMPLES: expected at most {config.full_sample_count} for category "
            f"{config.category}, found {config.samples}"
        )


def load(flags: Mapping[str, str], env: Mapping[str, str]) -> Config:
    """Resolve every setting. `flags` and `env` map names to text; flags have no prefix."""
    _check_names(flags, env)
    values: dict[str, Any] = {}
    for setting in TABLE:
        value = flags.get(setting.name) or env.get(setting.env_name) or ""
        origin = setting.flag if flags.get(setting.name) else setting.env_name
        if any("\udc80" <= c <= "\udcff" for c in value):
            raise UsageError(f"{origin}: expected text in UTF-8, found {value!r}")
        if flags.get(setting.name) and setting.read is settings.address and settings.user_info(value):
            raise UsageError(
                f"{origin}: expected an address without user and password, which every user of this machine "
                f"could read off the command line: set {setting.env_name} to it, or put it in .env"
            )
        try:
            values[setting.name.lower()] = setting.read(value.strip() or setting.default)
        except ValueError as error:
            hidden = setting.read is settings.address or (setting.read is settings.engine and "@" in value)
            shown = "another one, not shown as it may hold a password" if hidden else repr(value)
            raise UsageError(f"{origin}: expected {error}, found {shown}") from None
    if (flags.get("SCENARIO") or env.get(PREFIX + "SCENARIO") or "").strip().lower() == "all":
        values["scenario"] = rules.CATEGORY_SCENARIOS[values["category"]]
    config = Config(**values)
    _check_together(config)
    return config
