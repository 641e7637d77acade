"""What tuning found, kept per GPU: RESULTS_DIR/tuned/<gpu>.toml, read by every later run.

A file holds entries; an entry stands for one model, precision and number of GPUs, in the
words of `identity`, and is used only where all of them are the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import rules
from ..config import Config
from ..errors import UsageError
from ..records import lock
from ..records.files import write_text

log = logging.getLogger(__name__)
FOLDER = "tuned"
HEAD = "# Written by `make tune`, read by every run. A setting of yours beats a value here.\n"
# What an entry may say of a scenario beside its speed.
LIMITS = ("max_num_seqs", "prefill_tokens")


@dataclass(frozen=True)
class Tuned:
    """`engine`: vLLM's arguments. `scenarios`: target_qps or expected_latency_ms, and how it
    was found, by scenario."""

    engine: dict[str, Any] = field(default_factory=dict)
    scenarios: dict[str, dict[str, Any]] = field(default_factory=dict)

    def target_qps(self, scenario: str, duration_s: float) -> float | None:
        """None too where it was found for shorter runs: a longer one may not hold it."""
        values = self.scenarios.get(scenario, {})
        return values.get("target_qps") if values.get("duration_s", 0.0) >= duration_s else None

    def expected_latency_ms(self, scenario: str) -> float | None:
        return self.scenarios.get(scenario, {}).get("expected_latency_ms")


NONE = Tuned()


def identity(
    config: Config,
    model_sha256: str | None,
    engine: Mapping[str, object],
    static_scales: bool = False,
    replicas: int = 1,
) -> dict[str, object]:
    """What a tuned value hangs on beside the GPU: engine, model, precision, GPUs, round.

    `engine`: the preset's arguments. `static_scales`: FP8 is faster with them. `replicas`: engines that share
    the work. Without a `model_sha256` the model is left open.
    """
    several = {"replicas": replicas} if replicas > 1 else {}
    if config.endpoints:
        return {"engine": config.engine, "category": config.category, "round": config.round}
    if config.engine == "fake":
        script = json.dumps(config.fake, sort_keys=True).encode()
        digest = hashlib.sha256(script).hexdigest()[:16]
        return {"engine": "fake", "script": digest, "round": config.round, **several}

    def chosen(name: str, setting: str) -> str:
        return str(config.engine_args.get(name, engine.get(name, "auto") if setting == "auto" else setting))

    return {
        "engine": config.engine,
        **({"model": model_sha256} if model_sha256 else {}),
        "dtype": chosen("dtype", config.dtype),
        "quantization": chosen("quantization", config.quantization),
        **({"scales": "static"} if static_scales else {}),
        "kv_cache_dtype": chosen("kv_cache_dtype", config.kv_cache_dtype),
        "tensor_parallel": config.tensor_parallel,
        "category": config.category,
        "round": config.round,
        # Longer answers: a rate of its own.
        **({"ignore_eos": True} if config.ignore_eos else {}),
        **several,
    }


def path_of(results_dir: Path, config: Config, gpu_name: str | None) -> Path:
    """The GPU's file; `fake`, `endpoint` and `cpu` where there is none."""
    name = "fake" if config.engine == "fake" else "endpoint" if config.endpoints else gpu_name or "cpu"
    return results_dir / FOLDER / (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ".toml")


def read(path: Path, wanted: Mapping[str, object]) -> Tuned:
    """The entry of this identity; an empty one where there is none."""
    for entry in entries(path):
        if entry.get("identity") == dict(wanted):
            return _tuned(entry)
    return NONE


def read_any_model(path: Path, wanted: Mapping[str, object]) -> Tuned:
    """The entry of this identity with whatever model; an empty one where there is none, or several."""
    matching = [
        entry
        for entry in entries(path)
        if {k: v for k, v in entry.get("identity", {}).items() if k != "model"} == dict(wanted)
    ]
    return _tuned(matching[0]) if len(matching) == 1 else NONE


def _tuned(entry: Mapping[str, Any]) -> Tuned:
    scenarios = {s: dict(entry[s]) for s in rules.SCENARIOS if isinstance(entry.get(s), dict)}
    return Tuned(dict(entry.get("engine", {})), scenarios)


def entries(path: Path) -> list[dict[str, Any]]:
    """Every entry of a file; none where there is no file."""
    if not path.is_file():
        return []
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: expected TOML from `make tune`, could not read it: {error}") from None
    return [entry for entry in data.get("entry", []) if isinstance(entry, dict)]


def save(path: Path, wanted: Mapping[str, object], part: str, values: Mapping[str, object]) -> None:
    """Put a scenario's values, or the engine's, into the entry of this identity; another process that tunes
    waits meanwhile, so that neither's values are lost."""
    with lock.turn(path):
        kept = entries(path)
        entry = next((e for e in kept if e.get("identity") == dict(wanted)), None)
        if entry is None:
            entry = {"identity": dict(wanted)}
            kept.append(entry)
        entry[part] = {k: v for k, v in values.items() if v is not None}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, HEAD + "".join(_toml(e) for e in kept))


def _toml(entry: Mapping[str, Any]) -> str:
    lines = ["\n[[entry]]"]
    for table, values in entry.items():
        lines.append(f"[entry.{table}]")
        lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"
