"""What the head hands a member after the handshake, and what the member reports: JSON, no pickles."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from ...records.schema import Gpu, GpuReading, PythonProcess
from .. import EngineInfo

# Kinds of failure, by the error that each becomes at the head.
MISSING, BROKE, USAGE = "missing", "broke", "usage"


@dataclass(frozen=True)
class MemberSettings:
    """One engine, the same for every member but for its `index`. `engine`: vllm or fake; `arguments`: vLLM's
    AsyncEngineArgs, or the fake engine's script. `cache_dir`: as it was set, the member's own home is put in.
    `model_dir`: empty where the engine has none. `model_sha256`: of the weights at the head, on the host
    `host_id`. `scales`: text of a file of static FP8 scales. `engine_silence_s`: an engine that gives no sign
    for so long during a run hangs; None: no limit. `thorough`: the run may be submitted, and everything that
    is installed is looked at."""

    engine: str
    arguments: dict[str, object]
    environment: dict[str, str] = field(default_factory=dict)
    cache_dir: str = ""
    model_dir: str = ""
    model_sha256: str | None = None
    host_id: str = ""
    scales: str | None = None
    engine_silence_s: float | None = None
    thorough: bool = False
    index: int = 0


@dataclass(frozen=True)
class Loaded:
    """A member whose engine serves: what it is, and what it loaded."""

    info: EngineInfo
    host: str
    pid: int
    gpus: tuple[Gpu, ...] = ()
    cpus: int = 0
    code_sha256: str = ""
    model_sha256: str | None = None
    process: PythonProcess | None = None


@dataclass(frozen=True)
class Readings:
    """How a member's GPUs run."""

    gpus: tuple[GpuReading, ...]


@dataclass(frozen=True)
class Failure:
    """Why a member ends."""

    kind: str
    message: str


def host_id() -> str:
    """Tells two hosts apart, also where they have one name, and two containers of one host."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot} {os.stat('/').st_dev}"
