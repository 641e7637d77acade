"""What each JSON file of a run folder holds: one frozen dataclass a file, and its parts.

Dataclasses, because doctor and health run before anything is installed; codec.py turns them into
JSON and back with msgspec. Names carry their units. A field of None is written as null, one that
is `absent()` is left out until its stage has written it. Keys are added, never renamed: some
are older than the words used elsewhere (`rung`, `stood_on`, `memory_steps`).

Over 250 lines: whoever looks for a key finds every record in one place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypedDict

SCHEMA_VERSION = 1
# results.json `status`: what became of the run.
RUNNING, COMPLETE, INTERRUPTED, FAILED = "running", "complete", "interrupted", "failed"
# provenance.json `scales.mode`.
STATIC, DYNAMIC = "static", "dynamic"


def absent(until: str = "") -> Any:
    """A field left out of the JSON while it is None and the field named `until` is None too."""
    return field(default=None, metadata={"absent": True, "until": until})


# system.json


@dataclass(frozen=True)
class Machine:
    maker: str | None = None
    product: str | None = None


@dataclass(frozen=True)
class Cpu:
    """`features`: instruction sets that decide how fast vLLM's CPU build is."""

    model: str | None = None
    vendor: str | None = None
    sockets: int | None = None
    cores: int | None = None
    threads: int | None = None
    features: tuple[str, ...] = ()
    usable_threads: int | None = None
    max_clock_mhz: int | None = None
    numa_nodes: int | None = None
    architecture: str | None = None


@dataclass(frozen=True)
class Memory:
    """`limit_gib`: the container's (cgroup v2)."""

    total_gib: float | None = None
    available_gib: float | None = None
    limit_gib: float | None = None


@dataclass(frozen=True)
class OperatingSystem:
    name: str | None = None
    kernel: str | None = None
    libc: str | None = None


@dataclass(frozen=True)
class Disk:
    name: str
    kind: str
    size_gb: float


@dataclass(frozen=True)
class NetworkInterface:
    name: str
    speed_mbit_s: int | None = None


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU; what it cannot tell is None. `source`: nvml or nvidia-smi; None where it is one of
    several and not known which. `shared_memory`: its memory is the system's."""

    index: int = 0
    name: str = ""
    uuid: str | None = None
    memory_gib: float | None = None
    driver: str | None = None
    cuda: str | None = None
    compute_capability: str | None = None
    power_limit_w: float | None = None
    max_sm_clock_mhz: int | float | None = None
    max_memory_clock_mhz: int | float | None = None
    pcie_generation: int | float | None = None
    pcie_width: int | float | None = None
    nvlink_links: int | None = None
    ecc: bool | None = None
    mig: bool | None = None
    source: str | None = None
    shared_memory: bool | None = absent()


@dataclass(frozen=True)
class GpuReading:
    """One GPU's state at one moment."""

    index: int
    power_w: float | None = None
    sm_clock_mhz: float | None = None
    temperature_c: float | None = None
    utilisation_percent: float | None = None
    memory_used_gib: float | None = None


@dataclass(frozen=True)
class PythonVersion:
    version: str | None = None
    implementation: str | None = None


@dataclass(frozen=True)
class Container:
    inside: bool | None = None
    image_id: str | None = None


@dataclass(frozen=True)
class System:
    """What ran. `gpus`: those that CUDA will use; `gpu_choice`: how they came to be chosen, where it is not
    simply all; `gpu_failure`: the driver's own words where a GPU is there and fails. `git`: commit, dirty,
    and from (git, or image: written by its build)."""

    FILE: ClassVar[str] = "system.json"
    machine: Machine = Machine()
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    os: OperatingSystem = OperatingSystem()
    storage: tuple[Disk, ...] = ()
    network: tuple[NetworkInterface, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    python: PythonVersion = PythonVersion()
    packages: dict[str, str] = field(default_factory=dict)
    loadgen: tuple[str, ...] = ()
    git: dict[str, str | bool | None] = field(default_factory=dict)
    container: Container = Container()
    gpu_choice: str | None = absent()
    gpu_failure: str | None = absent()


@dataclass(frozen=True)
class Hosts:
    """Where HOSTS names hosts: what each of them is, with the GPUs that the run uses there."""

    FILE: ClassVar[str] = "hosts.json"
    hosts: dict[str, System] = field(default_factory=dict)


# provenance.json


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
    engines share the work."""

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

    @property
    def articles(self) -> Provided | None:
        """What static scales were made from; None where the scales are not static."""
        static = self.scales is not None and self.scales.is_static
        return (self.calibration or Provided()) if static else None


# results.json


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
class Performance:
    """LoadGen's own figures. `counters`: the engine's, over the run; `member_counters`: each member's.
    `repeated`: why it ran twice."""

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
    driven: Driven | None = absent()
    repeated: str | None = absent()


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
    """Scores x 100; `gen_len` in characters. Until a run is scored there are its counters alone."""

    rouge1: float | None = absent()
    rouge2: float | None = absent()
    rougeL: float | None = absent()
    rougeLsum: float | None = absent()
    gen_len: int | float | None = absent()
    gen_num: int | float | None = absent()
    word_overlap: WordOverlap | None = absent()
    targets: dict[str, Target] | None = absent()
    passed: bool | None = absent(until="rouge1")
    counters: dict[str, float] | None = absent()
    lost_members: tuple[LostMember, ...] | None = absent()
    driven: Driven | None = absent()


@dataclass(frozen=True)
class Compliance:
    """TEST06."""

    passed: bool | None = None
    counters: dict[str, float] | None = absent()
    driven: Driven | None = absent()


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


# engine.json


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
    configuration as it understood them."""

    time: str
    name: str
    version: str
    arguments: dict[str, object] = field(default_factory=dict)
    preset: UsedPreset | None = None
    extension: UsedExtension | None = None
    resolved: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class EngineLoads:
    FILE: ClassVar[str] = "engine.json"
    loads: tuple[EngineLoad, ...] = ()


# environment.json


@dataclass(frozen=True)
class ImportedPackage:
    """A package that the measuring process, or LoadGen's child, imported. `file`: where from; `version`: of
    the distribution that lies beside it, and `locked` as the lock file has it. `sha256`: one hash of its
    wheel's file list; `files`: how many of it were hashed, `differing` those that are not as the list says.
    `foreign`: it does not belong to this Python's environment."""

    name: str
    file: str | None
    version: str | None = None
    locked: tuple[str, ...] = ()
    sha256: str | None = None
    files: int = 0
    differing: tuple[str, ...] = ()
    foreign: bool = False


@dataclass(frozen=True)
class PythonProcess:
    """The process that measured, or that of a `member`. `flags`: Python's that keep the caller's folders
    away; `path`: where it imports from; `foreign_path`: folders of it that are not of its environment;
    `start_files`: what else ran at its start; `preloaded`: libraries put before all others. `variables`:
    those that libraries or Python read, as they were given, without secrets; `engine_variables`: what loading
    the engine set."""

    time: str
    executable: str
    flags: dict[str, bool] = field(default_factory=dict)
    path: tuple[str, ...] = ()
    foreign_path: tuple[str, ...] = ()
    start_files: tuple[str, ...] = ()
    preloaded: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    engine_variables: dict[str, str] = field(default_factory=dict)
    packages: tuple[ImportedPackage, ...] = ()
    member: int | None = absent()


@dataclass(frozen=True)
class Environment:
    """One process for each time that the run was started or resumed, and one for each member."""

    FILE: ClassVar[str] = "environment.json"
    processes: tuple[PythonProcess, ...] = ()


# verdict.json


@dataclass(frozen=True)
class Check:
    """`detail` holds value, limit and margin; `fix` what to change, empty where passed."""

    name: str
    passed: bool
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class Verdict:
    FILE: ClassVar[str] = "verdict.json"
    submittable: bool = False
    checks: tuple[Check, ...] = ()


# hashes.json


@dataclass(frozen=True)
class SealedStage:
    """`source`: the hash of the code that ran the stage. `part`: the LoadGen run or other part of it that
    was sealed when it had ended; absent of the whole stage."""

    stage: str
    sealed: str
    source: str | None = None
    part: str | None = absent()


@dataclass(frozen=True)
class OpenStage:
    """A stage at work, or one that was killed. `paths`: what it is writing. `pending`: the SHA-256 of each
    record that it was about to replace."""

    stage: str
    began: str
    source: str | None = None
    paths: tuple[str, ...] = ()
    pending: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seal:
    """`broken`: files that changed between stages, for good. `files`: SHA-256 by relative path."""

    FILE: ClassVar[str] = "hashes.json"
    stages: tuple[SealedStage, ...] = ()
    broken: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    open: OpenStage | None = absent()


# events.jsonl, an object a line


class EventFields(TypedDict, total=False):
    """`done` of `total` `unit`; the rest where it applies. `gpu`: a GpuReading for each."""

    done: int
    total: int
    unit: str
    samples_per_s: float
    tokens_per_s: float
    eta_s: float
    message: str
    status: str
    gpu: list[dict[str, float | None]]


class Event(EventFields):
    """`time`: ISO 8601, UTC."""

    time: str
    stage: str
