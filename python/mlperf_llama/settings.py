"""The table of settings: name, default, how to read the text, what is allowed.

Meanings and units are documented once, in .env.example; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import rules

PREFIX = "MLPERF_"
SECRETS = ("HF_TOKEN", "CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET")
AUTO = "auto"

Reader = Callable[[str], Any]


@dataclass(frozen=True)
class Setting:
    """One setting: `name` without prefix, `default` as text, `read` raises ValueError."""

    name: str
    default: str
    read: Reader

    @property
    def env_name(self) -> str:
        return PREFIX + self.name

    @property
    def flag(self) -> str:
        return "--" + self.name.lower().replace("_", "-")


def text(value: str) -> str:
    return value


def one_of(*names: str) -> Reader:
    def read(value: str) -> str:
        for name in names:
            if value.lower() == name.lower():
                return name
        raise ValueError(f"one of {', '.join(names)}")

    return read


def list_of(*names: str) -> Reader:
    def read(value: str) -> tuple[str, ...]:
        if value.lower() == "all":
            return tuple(names)
        words = [w for w in value.replace(",", " ").split() if w]
        found = tuple(dict.fromkeys(one_of(*names)(w) for w in words))
        if not found:
            raise ValueError(f"one or more of {', '.join(names)}, or all")
        return tuple(n for n in names if n in found)

    def checked(value: str) -> tuple[str, ...]:
        try:
            return read(value)
        except ValueError:
            raise ValueError(f"one or more of {', '.join(names)}, or all") from None

    return checked


def number(kind: type, low: float, high: float = float("inf"), auto: bool = False) -> Reader:
    """A number in [low, high]; with `auto` the words auto or nothing give None."""
    what = "a whole number" if kind is int else "a number"
    bounds = f"of {low:g} or more" if high == float("inf") else f"from {low:g} to {high:g}"

    def read(value: str) -> Any:
        if auto and value.lower() in ("", AUTO):
            return None
        try:
            found = kind(value)
        except ValueError:
            found = None
        if found is None or not low <= found <= high:
            raise ValueError(f"{what} {bounds}" + (" or auto" if auto else ""))
        return found

    return read


def switch(value: str) -> bool:
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("0 or 1")


def json_object(value: str) -> dict[str, Any]:
    try:
        found = json.loads(value or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("a JSON object")
    return found


positive = 1e-9

TABLE: tuple[Setting, ...] = (
    Setting("SCENARIO", rules.OFFLINE, list_of(*rules.SCENARIOS)),
    Setting("MODE", "performance,accuracy", list_of(*rules.MODES)),
    Setting("ROUND", "v6.1", one_of(*rules.ROUNDS)),
    Setting("CATEGORY", rules.DATACENTER, one_of(rules.DATACENTER, rules.EDGE)),
    Setting("DATASET_SOURCE", AUTO, text),
    Setting("MODEL", AUTO, text),
    Setting("ENGINE", "vllm", one_of("vllm", "fake")),
    Setting("PRESET", AUTO, text),
    Setting("SAMPLES", AUTO, number(int, 1, auto=True)),
    Setting("DURATION_S", AUTO, number(float, 0, auto=True)),
    Setting("TARGET_QPS", AUTO, number(float, positive, auto=True)),
    Setting("EXPECTED_LATENCY_MS", AUTO, number(float, positive, auto=True)),
    Setting("SEARCH", "qps", list_of("qps", "engine")),
    Setting("PROBE_S", "90", number(float, 0.1)),
    Setting("DTYPE", AUTO, one_of(AUTO, "bfloat16", "float16", "float32")),
    Setting("QUANTIZATION", AUTO, text),
    Setting("KV_CACHE_DTYPE", AUTO, text),
    Setting("MAX_NUM_SEQS", AUTO, number(int, 1, auto=True)),
    Setting("MAX_NUM_BATCHED_TOKENS", AUTO, number(int, 1, 65536, auto=True)),
    Setting("GPU_MEMORY_UTILIZATION", AUTO, number(float, 0.1, 1, auto=True)),
    Setting("TENSOR_PARALLEL", "1", number(int, 1)),
    Setting("ENGINE_ARGS", "{}", json_object),
    Setting("IGNORE_EOS", "0", switch),
    Setting("FAKE", "{}", json_object),
    Setting("SEED", "0", number(int, 0)),
    Setting("SCORE_WORKERS", AUTO, number(int, 1, auto=True)),
    Setting("RESULTS_DIR", "results", text),
    Setting("CACHE_DIR", "~/.cache/mlperf-llama", text),
    Setting("RUNG_STALL_S", "20", number(float, 1, 30)),
    Setting("RUNG_TIMEOUT_S", "7200", number(float, 1)),
    Setting("MLC_REPO", "mlcommons@mlperf-automations", text),
    Setting("R2_BASE_URL", "https://inference.mlcommons-storage.org/metadata", text),
    Setting("R2_MODEL_URL", "https://llama3-1.mlcommons-storage.org/metadata", text),
    Setting("SUBMITTER", "", text),
    Setting("DIVISION", "closed", one_of("closed", "open")),
    Setting("SYSTEM_FILE", "system.toml", text),
    Setting("INFERENCE_DIR", "", text),
)
BY_NAME = {s.name: s for s in TABLE}
