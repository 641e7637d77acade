"""What each JSON file of a run folder holds: one module a file, one frozen dataclass a record and its parts.

Dataclasses, because doctor and health run before anything is installed; codec.py turns them into
JSON and back with msgspec. Names carry their units. A field of None is written as null, one that
is `absent()` is left out until its stage has written it. Keys are added, never renamed: some
are older than the words used elsewhere (`rung`, `stood_on`, `memory_steps`).
"""

from __future__ import annotations

from .endpoint import ProbedServer
from .engine import EngineLoad, EngineLoads, UsedExtension, UsedPreset
from .environment import Environment, ImportedPackage, InstalledPackages, PythonProcess
from .events import Event, EventFields, MemberCounts, SearchState
from .fields import COMPLETE, DYNAMIC, FAILED, INTERRUPTED, RUNNING, SCHEMA_VERSION, STATIC, absent
from .hashes import OpenStage, Seal, SealedStage
from .provenance import Attempt, Member, MemoryStep, Provenance, Provided, Resumed, ScalesUsed
from .results import (
    NOT_JUDGED,
    Accuracy,
    Compliance,
    Driven,
    Energy,
    Expectation,
    LoadedEngine,
    LostMember,
    Performance,
    Results,
    Scenario,
    SelfCheck,
    Target,
    WordOverlap,
)
from .system import (
    Container,
    Cpu,
    Disk,
    Gpu,
    GpuReading,
    Hosts,
    Machine,
    Memory,
    NetworkInterface,
    OperatingSystem,
    PythonVersion,
    System,
)
from .verdict import Check, Verdict

__all__ = [
    "COMPLETE",
    "DYNAMIC",
    "FAILED",
    "INTERRUPTED",
    "NOT_JUDGED",
    "RUNNING",
    "SCHEMA_VERSION",
    "STATIC",
    "Accuracy",
    "Attempt",
    "Check",
    "Compliance",
    "Container",
    "Cpu",
    "Disk",
    "Driven",
    "Energy",
    "EngineLoad",
    "EngineLoads",
    "Environment",
    "Event",
    "EventFields",
    "Expectation",
    "Gpu",
    "GpuReading",
    "Hosts",
    "ImportedPackage",
    "InstalledPackages",
    "LoadedEngine",
    "LostMember",
    "Machine",
    "Member",
    "MemberCounts",
    "Memory",
    "MemoryStep",
    "NetworkInterface",
    "OpenStage",
    "OperatingSystem",
    "Performance",
    "ProbedServer",
    "Provenance",
    "Provided",
    "PythonProcess",
    "PythonVersion",
    "Results",
    "Resumed",
    "ScalesUsed",
    "Scenario",
    "Seal",
    "SealedStage",
    "SearchState",
    "SelfCheck",
    "System",
    "Target",
    "UsedExtension",
    "UsedPreset",
    "Verdict",
    "WordOverlap",
    "absent",
]
