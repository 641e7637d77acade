"""Presets: engine settings for a kind of GPU, measured or worked out.

A preset is a TOML file in presets/: `[engine]` holds vLLM's arguments,
`[environment]` variables that vLLM reads, and a table per scenario its limits under load.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from .. import rules
from ..config import Config
from ..errors import UsageError
from ..machine.gpu_table import find_gpu
from ..records.schema import Gpu
from ..settings import AUTO
from . import derive
from .pacing import Pacing

# vLLM's AsyncEngineArgs, or some of them.
VllmArguments: TypeAlias = Mapping[str, Any]

PRESETS = Path(__file__).parent / "presets"
CPU, GENERIC = "cpu", "gpu"
# vLLM's own values where nothing is set.
DEFAULT_MAX_NUM_SEQS, DEFAULT_MAX_NUM_BATCHED_TOKENS = 256, 8192


@dataclass(frozen=True)
class ScenarioSettings:
    """Limits of a scenario's runs under the engine's own, which None leaves, and their pacing."""

    max_num_seqs: int | None = None
    prefill_tokens: int | None = None
    pacing: Pacing = field(default_factory=Pacing)

    @staticmethod
    def of(table: Mapping[str, Any]) -> ScenarioSettings:
        """From a preset's table."""
        pacing = {f.name: table[f.name] for f in fields(Pacing) if f.name in table}
        return ScenarioSettings(table.get("max_num_seqs"), table.get("prefill_tokens"), Pacing(**pacing))

    def record(self) -> dict[str, object]:
        """For results.json; pacing where it differs from vLLM's own."""
        limits = {
            "scenario_max_num_seqs": self.max_num_seqs,
            "scenario_prefill_tokens": self.prefill_tokens,
        }
        own = Pacing()
        pacing = {f.name: getattr(self.pacing, f.name) for f in fields(Pacing)}
        return limits | {name: value for name, value in pacing.items() if value != getattr(own, name)}


@dataclass(frozen=True)
class Preset:
    """One preset. `name`: a shipped one's, or the path of the user's own. `scenarios` holds those with
    settings of their own. `text`: its file's content; empty where it was worked out."""

    name: str
    engine: VllmArguments = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    scenarios: Mapping[str, ScenarioSettings] = field(default_factory=dict)
    text: str = ""

    @property
    def max_num_seqs(self) -> int:
        return int(self.engine.get("max_num_seqs", DEFAULT_MAX_NUM_SEQS))

    @property
    def max_num_batched_tokens(self) -> int:
        return int(self.engine.get("max_num_batched_tokens", DEFAULT_MAX_NUM_BATCHED_TOKENS))


def names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in PRESETS.glob("*.toml")))


def load_preset(name: str) -> Preset:
    """A shipped preset by name, or a TOML file by path."""
    own = name.endswith(".toml")
    path = Path(name).expanduser().absolute() if own else PRESETS / f"{name}.toml"
    if not path.is_file():
        raise UsageError(f"PRESET: expected one of {', '.join(names())} or a .toml file, found {name}")
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise UsageError(f"PRESET {path}: expected TOML, could not read it: {error}") from None
    scenarios = {s: ScenarioSettings.of(data.pop(s)) for s in rules.SCENARIOS if s in data}
    engine, environment = data.pop("engine", {}), data.pop("environment", {})
    if data:
        raise UsageError(f"PRESET {path}: unknown table {next(iter(data))}; known: engine, environment")
    variables = {key: str(value) for key, value in environment.items()}
    return Preset(str(path) if own else name, engine, variables, scenarios, text)


def detect(gpu: Gpu | None) -> str:
    """The preset that fits a GPU, by name: cpu without one, gpu where the table of GPUs has none for it."""
    if gpu is None:
        return CPU
    spec = find_gpu(gpu)
    return spec.preset or GENERIC if spec else GENERIC


def choose_preset(config: Config, gpu: Gpu | None) -> Preset:
    """The user's preset, else the GPU's, else one worked out from what the GPU has."""
    name = detect(gpu) if config.preset == AUTO else config.preset
    if name != GENERIC:
        return load_preset(name)
    derived = derive.settings(derive.card_of(gpu or Gpu()))
    scenarios = {name: ScenarioSettings(prefill_tokens=cap) for name, cap in derived.prefill_tokens.items()}
    return Preset(GENERIC, derived.engine, {}, scenarios)
