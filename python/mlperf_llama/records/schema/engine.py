"""engine.json: every load of the engine, with all that it was given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .fields import absent


@dataclass(frozen=True)
class UsedPreset:
    """`name`: a shipped one's, or the path of the user's own. `content` is empty where the settings were
    worked out from what the GPU has."""

    name: str
    content: str
    sha256: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class UsedExtension:
    """The class that vLLM's workers are extended by; `revision`: of what the kernels change in vLLM."""

    name: str
    revision: int | None = None


@dataclass(frozen=True)
class EngineLoad:
    """One time that the engine was loaded. `arguments`: all that it was given; `resolved`: its whole
    configuration as it understood them. `member`: of which it is the engine, where several share the work."""

    time: str
    name: str
    version: str
    arguments: dict[str, object] = field(default_factory=dict)
    preset: UsedPreset | None = None
    extension: UsedExtension | None = None
    resolved: dict[str, object] = field(default_factory=dict)
    member: int | None = absent()


@dataclass(frozen=True)
class EngineLoads:
    FILE: ClassVar[str] = "engine.json"
    loads: tuple[EngineLoad, ...] = ()
