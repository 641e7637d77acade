"""results.json: what was measured, and with which engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .fields import RUNNING, absent

# In the place of VALID and INVALID.
NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class LostMember:
    """A member that died during an accuracy run; its `unfinished` requests went to the others, once more."""

    member: int
    name: str
    cause: str
    unfinished: int
    time: str


@dataclass(frozen=True)
class Driven:
    """What this package counted and timed itself in a LoadGen run: samples and tokens that it handed on,
    the prompts' tokens, seconds from the first query to the last answer by the monotonic clock and by the
    wall clock, and when it began (ISO 8601, UTC). `loadgen`: the library that LoadGen's process loaded."""

    samples: int
    tokens: int
    prompt_tokens: int
    seconds: float
    wall_seconds: float
    began: str
    loadgen: str


@dataclass(frozen=True)
class Expectation:
    """What a run was expected to reach, before it began. `source`: where that comes from."""

    samples_per_second: float
    source: str
    ttft_p99_ms: float | None = absent()
    tpot_p99_ms: float | None = absent()


@dataclass(frozen=True)
class Energy:
    """What the run's GPUs drew from the first query to the last answer: NVML's word, of the cards alone.

    `method`: counter (NVML's energy counter) or power (the integral of its power readings, one every
    `interval_s`). `mean_w` and `peak_w` are of all `gpus` together; `peak_w` of several members: at most.
    """

    joules: float
    seconds: float
    mean_w: float
    peak_w: float | None
    gpus: int
    method: str
    interval_s: float


@dataclass(frozen=True)
class Performance:
    """LoadGen's own figures. `counters`: the engine's, over the run; `member_counters`, `member_energy`: each
    member's. `repeated`: why it ran twice. `not_judged`: why a shortened run's VALID or INVALID says
    nothing."""

    samples_per_second: float
    tokens_per_second: float
    total_time_seconds: float
    samples_processed: int
    loadgen_result: str
    ttft_p99_ms: float | None = None
    tpot_p99_ms: float | None = None
    latency_p90_ms: float | None = None
    invalid_reasons: tuple[str, ...] = ()
    loadgen_errors: tuple[str, ...] = ()
    counters: dict[str, float] | None = absent()
    member_counters: tuple[dict[str, float], ...] | None = absent()
    member_energy: tuple[Energy, ...] | None = absent()
    driven: Driven | None = absent()
    repeated: str | None = absent()
    expected: Expectation | None = absent()
    energy: Energy | None = absent()
    not_judged: str | None = absent()

    @property
    def validity(self) -> str:
        """VALID or INVALID, as LoadGen says; or not judged."""
        return NOT_JUDGED if self.not_judged else self.loadgen_result


@dataclass(frozen=True)
class Target:
    """`met` None: the run does not cover the full set."""

    low: int | float
    high: int | float | None
    met: bool | None


@dataclass(frozen=True)
class WordOverlap:
    label: str
    unigram_f1: float


@dataclass(frozen=True)
class Accuracy:
    """Scores x 100; `gen_len` in characters. Until a run is scored there are its counters alone.
    `standard_errors`: of the means, by score."""

    rouge1: float | None = absent()
    rouge2: float | None = absent()
    rougeL: float | None = absent()
    rougeLsum: float | None = absent()
    gen_len: int | float | None = absent()
    gen_num: int | float | None = absent()
    standard_errors: dict[str, float] | None = absent()
    word_overlap: WordOverlap | None = absent()
    targets: dict[str, Target] | None = absent()
    passed: bool | None = absent(until="rouge1")
    counters: dict[str, float] | None = absent()
    lost_members: tuple[LostMember, ...] | None = absent()
    driven: Driven | None = absent()


@dataclass(frozen=True)
class Compliance:
    """TEST06. `not_judged`: why a shortened run's responses do not decide it."""

    passed: bool | None = None
    counters: dict[str, float] | None = absent()
    driven: Driven | None = absent()
    not_judged: str | None = absent()


@dataclass(frozen=True)
class Scenario:
    """One scenario's runs. `engine_settings`: the engine's settings by mode."""

    engine_settings: dict[str, dict[str, object]] | None = absent()
    performance: Performance | None = absent()
    accuracy: Accuracy | None = absent()
    compliance: Compliance | None = absent()


@dataclass(frozen=True)
class SelfCheck:
    """How far an extension of the engine was off when it was loaded, beside the engine's own code.

    Of a token: the root mean square of its logits' errors, in standard deviations of these, against attention
    that quantises and caches nothing. `mean` and `largest` are of all `compared` tokens, `own_mean` and
    `own_largest` those of the engine's own code; `prompts` went through `steps` in both.
    """

    extension: str
    revision: int
    passed: bool
    mean: float
    mean_bound: float
    largest: float
    largest_bound: float
    own_mean: float
    own_largest: float
    prompts: int
    steps: int
    compared: int
    seconds: float


@dataclass(frozen=True)
class LoadedEngine:
    """`settings`: vLLM's own, as loaded. `self_check`: of the extension, where one ran. Seconds: `import_s`
    of waiting for the engine's modules, `load_s` of loading and compiling, `first_query_s` from the start of
    the process that measures to its first answer, a made-up prompt's."""

    name: str | None = None
    version: str | None = None
    preset: str | None = None
    settings: dict[str, object] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)
    load_s: float | None = None
    self_check: SelfCheck | None = absent()
    import_s: float | None = absent()
    first_query_s: float | None = absent()


@dataclass(frozen=True)
class Results:
    """`started`, `finished`: ISO 8601, UTC."""

    FILE: ClassVar[str] = "results.json"
    status: str = RUNNING
    started: str | None = None
    finished: str | None = None
    round: str | None = None
    category: str | None = None
    scenarios: dict[str, Scenario] = field(default_factory=dict)
    engine: LoadedEngine | None = absent()
