"""provenance.json: where data, model and scales came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .endpoint import ProbedServer
from .fields import STATIC, absent
from .results import SelfCheck
from .system import Gpu


@dataclass(frozen=True)
class Attempt:
    """One source that was tried. `outcome`: served or failed, with the reason."""

    rung: str
    outcome: str
    reason: str
    seconds: float


@dataclass(frozen=True)
class Provided:
    """The data or the model of a run: what served it, once one did, and every source that was tried.

    `eligible` False always carries a `reason`. `rows`: of a dataset; `revision`: of a model.
    """

    source: str | None = absent()
    path: str | None = absent()
    sha256: str | None = absent()
    eligible: bool | None = absent()
    reason: str | None = absent()
    rows: int | None = absent(until="source")
    revision: str | None = absent(until="source")
    details: dict[str, object] | None = absent()
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class Resumed:
    """`other_system`: which parts of the machine differed from the one that the run began on.
    `finished`: the LoadGen runs that were kept."""

    time: str
    other_system: tuple[str, ...] = ()
    finished: tuple[str, ...] | None = absent()


@dataclass(frozen=True)
class MemoryStep:
    """One of vLLM's arguments that a lack of memory changed."""

    name: str
    before: object
    after: object


@dataclass(frozen=True)
class Member:
    """One of several engines that share the work. `gpus`: those that it sees; `cpus`: how many it may run on.
    `code_sha256`: of this package there; `model_sha256`: of the weights there."""

    index: int
    host: str
    gpus: tuple[Gpu, ...] = ()
    cpus: int | None = None
    version: str | None = None
    settings: dict[str, object] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)
    load_s: float | None = None
    code_sha256: str | None = None
    model_sha256: str | None = None
    self_check: SelfCheck | None = absent()


@dataclass(frozen=True)
class ScalesUsed:
    """How FP8's inputs and KV cache got their scales. `mode`: static or dynamic, with the `reason` where it
    had to be chosen. Of static ones: SHA-256 of scales.json, and what the run knew of its model's tokenizer,
    of the calibration prompts and of the code when it took them."""

    mode: str
    reason: str = ""
    sha256: str | None = absent()
    tokenizer_sha256: str | None = absent()
    ids_sha256: str | None = absent()
    ids_count: int | None = absent()

    @property
    def is_static(self) -> bool:
        return self.mode == STATIC


@dataclass(frozen=True)
class Provenance:
    """Where everything came from. `stood_on`: the hashes of dataset and model that the runs
    before a resume used. `calibration`: the articles tried for static scales. `members`: where several
    engines share the work. `endpoints`: the servers, where they are the engine."""

    FILE: ClassVar[str] = "provenance.json"
    round: str | None = None
    loadgen_version: str | None = None
    dataset: Provided | None = absent()
    model: Provided | None = absent()
    samples: int | None = absent()
    full_samples: int | None = absent()
    duration_s: float | None = absent()
    shortened: bool | None = absent()
    resumed: tuple[Resumed, ...] | None = absent()
    stood_on: dict[str, str | None] | None = absent()
    memory_steps: tuple[MemoryStep, ...] | None = absent()
    members: tuple[Member, ...] | None = absent()
    calibration: Provided | None = absent()
    scales: ScalesUsed | None = absent()
    endpoints: tuple[ProbedServer, ...] | None = absent()

    @property
    def articles(self) -> Provided | None:
        """What static scales were made from; None where the scales are not static."""
        static = self.scales is not None and self.scales.is_static
        return (self.calibration or Provided()) if static else None
