"""How much of the benchmark is run, and on which GPU."""

from __future__ import annotations

from dataclasses import dataclass

from .. import rules
from ..config import Config
from ..errors import UsageError
from ..records.run_folder import RunFolder
from ..records.schema import Gpu, Provenance, System

# A CPU answers about one sample in two seconds: enough for a real run in minutes.
CPU_SAMPLES = 16
SHORTENED_DURATION_S = 1.0


@dataclass(frozen=True)
class Scope:
    """How much of the benchmark is run."""

    sample_count: int
    full_sample_count: int
    duration_s: float
    on_gpu: bool

    @property
    def shortened(self) -> bool:
        return self.sample_count < self.full_sample_count or self.duration_s < rules.MIN_DURATION_S


def scope_of(config: Config, rows: int, on_gpu: bool) -> Scope:
    """Settings, rows at hand and the machine decide the count; a subset shortens the duration."""
    full = config.full_sample_count
    wanted = config.samples or (min(full, rows) if on_gpu else CPU_SAMPLES)
    if config.samples and config.samples > rows:
        raise UsageError(f"SAMPLES: expected at most the dataset's {rows} rows, found {config.samples}")
    count = min(wanted, rows)
    duration = config.duration_s
    if duration is None:
        duration = rules.MIN_DURATION_S if count == full else SHORTENED_DURATION_S
    return Scope(count, full, duration, on_gpu)


def record_scope(run: RunFolder, scope: Scope) -> None:
    """Put it into provenance.json."""
    run.update(
        Provenance,
        samples=scope.sample_count,
        full_samples=scope.full_sample_count,
        duration_s=scope.duration_s,
        shortened=scope.shortened,
    )


def first_gpu(run: RunFolder) -> Gpu | None:
    """The first GPU of system.json."""
    return next(iter(run.read(System).gpus), None)
