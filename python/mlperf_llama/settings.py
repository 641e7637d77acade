"""The table of settings: name, default, how to read the text, what it means.

The one source of the flags' help and of .env.example (cli/env_example.py writes it).
Over 250 lines: the whole table stands in one place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from . import rules

PREFIX = "MLPERF_"
# What this package tells its own processes; no settings.
INTERNAL = f"{PREFIX}LLAMA_"
AUTO = "auto"
QUIET, NORMAL, DEBUG = "quiet", "normal", "debug"
POSITIVE = 1e-9  # the lowest value of a number that may not be 0

Reader = Callable[[str], object]
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.@-]*[A-Za-z0-9_])?")


@dataclass(frozen=True)
class OneOf:
    """Reads one of `names`, in any case."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.names)}"

    def __call__(self, value: str) -> str:
        for name in self.names:
            if value.lower() == name.lower():
                return name
        raise ValueError(str(self))


@dataclass(frozen=True)
class SomeOf:
    """Reads some of `names`, with commas or spaces between them, or the word all."""

    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"one or more of {', '.join(self.names)}, or all"

    def __call__(self, value: str) -> tuple[str, ...]:
        if value.lower() == "all":
            return self.names
        try:
            chosen = {OneOf(self.names)(word) for word in value.replace(",", " ").split()}
        except ValueError:
            chosen = set()
        if not chosen:
            raise ValueError(str(self))
        return tuple(name for name in self.names if name in chosen)


ENGINES = OneOf(("vllm", "fake"))


def text(value: str) -> str:
    return value


_WEB_ADDRESS = re.compile(r"(https?://)(?:([^\s/?#]*)@)?([^\s/?#]*)", re.IGNORECASE)


def user_info(value: str) -> str:
    """USER:PASSWORD of a web address, as it is written there; empty without."""
    match = _WEB_ADDRESS.match(value)
    return (match[2] or "") if match else ""


def address(value: str) -> str:
    """An address without its user and password: config.user_info gives those to who needs them.

    What is no web address (owner@name, git@host:path, a folder) stays as it is.
    """
    match = _WEB_ADDRESS.match(value)
    if not match:
        return value
    _, colon, port = match[3].rpartition(":")
    if colon and not port.endswith("]") and not port.isdigit():
        raise ValueError("an address whose user and password write / ? # @ as %2F %3F %23 %40")
    return match[1] + match[3] + value[match.end() :]


def number(
    kind: type[int] | type[float], low: float, high: float = float("inf"), auto: bool = False
) -> Reader:
    """A number in [low, high]; with `auto` the word auto or nothing gives None."""
    what = "a whole number" if kind is int else "a number"
    bounds = f"of {low:g} or more" if high == float("inf") else f"from {low:g} to {high:g}"

    def read(value: str) -> float | None:
        if auto and value.lower() in ("", AUTO):
            return None
        parsed: float | None = None
        with suppress(ValueError):
            parsed = kind(value)
        if parsed is None or not low <= parsed <= high:
            raise ValueError(f"{what} {bounds}" + (" or auto" if auto else ""))
        return parsed

    return read


def gpus(value: str) -> int | tuple[int, ...] | None:
    """A count, or numbers with commas between them; None for all. A comma behind one number makes it one."""
    if value.lower() in ("", "all"):
        return None
    words = [word.strip() for word in value.split(",")]
    numbers = tuple(int(word) for word in words if word.isascii() and word.isdigit())
    listed = len(words) > 1
    if len(numbers) != len(words) - (listed and not words[-1]) or len(set(numbers)) != len(numbers):
        numbers = ()
    if not numbers or (not listed and numbers[0] < 1):
        raise ValueError("a count of 1 or more, or numbers of GPUs with commas (3, is GPU 3), or all")
    return numbers if listed else numbers[0]


def hosts(value: str) -> str:
    """ray, slurm, join, or host names with commas between them; empty for this host."""
    names = [name.strip() for name in value.split(",")] if value else []
    if not all(HOST.fullmatch(name) for name in names) or len(set(names)) < len(names):
        raise ValueError("nothing, ray, slurm, join, or names of hosts with commas, each once")
    return ",".join(names)


def head_address(value: str) -> str | None:
    """An address, and a port behind a colon; None for auto."""
    if value.lower() in ("", AUTO):
        return None
    host, colon, port = value.rpartition(":")
    if not HOST.fullmatch(host if colon else port):
        raise ValueError("HOST or HOST:PORT, or auto")
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("HOST:PORT with a port from 1 to 65535")
    return value


_SERVER = re.compile(r"https?://[A-Za-z0-9_.\[\]:-]+(/[\w./-]*)?", re.IGNORECASE)


def engine(value: str) -> str:
    """vllm or fake; or addresses of servers with commas between them, each without the /v1 of its paths."""
    if "://" not in value:
        return ENGINES(value)
    addresses = [part.strip().rstrip("/").removesuffix("/v1") for part in value.split(",")]
    if not all(_SERVER.fullmatch(address) for address in addresses) or len(set(addresses)) < len(addresses):
        raise ValueError(
            "addresses of servers (http://HOST:PORT, with commas, each once), without user and password: "
            "the server's key comes in ENDPOINT_API_KEY"
        )
    return ",".join(addresses)


def concurrency(value: str) -> tuple[int, int] | None:
    """The lowest and the highest number of requests at once; None for auto."""
    if value.lower() in ("", AUTO):
        return None
    lowest, dash, highest = value.partition("-")
    if not (dash and all(part.isascii() and part.isdigit() for part in (lowest, highest))):
        raise ValueError("LOWEST-HIGHEST, such as 16-1024, or auto")
    return int(lowest), int(highest)


def serve_address(value: str) -> str:
    """HOST:PORT."""
    parsed = head_address(value)
    if parsed is None or ":" not in parsed:
        raise ValueError("HOST:PORT with a port from 1 to 65535")
    return parsed


def switch(value: str) -> bool:
    if value.lower() in ("1", "true", "yes", "on"):
        return True
    if value.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError("0 or 1")


def json_object(value: str) -> dict[str, object]:
    try:
        parsed = json.loads(value or "{}")
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError("a JSON object")
    return parsed


@dataclass(frozen=True)
class Setting:
    """One setting. `name`: without its prefix; `default`: as text; `read`: raises ValueError with what was
    expected; `meaning`: sentences with the unit, without the choices that `read` knows."""

    name: str
    default: str
    read: Reader
    meaning: str
    prefix: str = PREFIX

    @property
    def env_name(self) -> str:
        return self.prefix + self.name

    @property
    def flag(self) -> str:
        return "--" + self.name.lower().replace("_", "-")

    @property
    def choices(self) -> tuple[str, ...]:
        """Every value that may be chosen, where they can be listed."""
        return self.read.names if isinstance(self.read, OneOf | SomeOf) else ()

    @property
    def explanation(self) -> str:
        """The meaning and the choices."""
        if not self.choices:
            return self.meaning
        sentence = str(self.read)
        return f"{self.meaning} {sentence[0].upper()}{sentence[1:]}."


@dataclass(frozen=True)
class Group:
    title: str
    settings: tuple[Setting, ...]


# Laid out by hand: two or three lines per setting, so that the table can be read as one.
# fmt: off
RUN = Group("What is run", (
    Setting("SCENARIO", rules.OFFLINE, SomeOf(rules.SCENARIOS),
        "Scenarios, several with commas; all means those of the category."),
    Setting("MODE", "performance,accuracy", SomeOf(rules.MODES),
        "Modes, several with commas; compliance is TEST06."),
    Setting("ROUND", "v6.1", OneOf(tuple(rules.ROUNDS)),
        "MLPerf round, which decides LoadGen's version and seeds."),
    Setting("CATEGORY", rules.DATACENTER, OneOf((rules.DATACENTER, rules.EDGE)),
        "Category: datacenter has 13,368 samples, edge has 5,000."),
    Setting("SAMPLES", AUTO, number(int, 1, auto=True),
        "Samples of the dataset to use (count, from its first). "
        "auto: all of them on a GPU, a few on a CPU."),
    Setting("DURATION_S", AUTO, number(float, 0, auto=True),
        "Shortest time of a performance run (seconds). "
        "auto: the 600 of the rules on a GPU, less on a CPU. A shortened run sends what fits into a "
        "minute, or into this where it is longer, and is not judged where that is too little."),
    Setting("TARGET_QPS", AUTO, number(float, POSITIVE, auto=True),
        "Rate at which LoadGen sends queries; in Offline the rate that it expects (queries per second). "
        "auto: from a measurement."),
    Setting("EXPECTED_LATENCY_MS", AUTO, number(float, POSITIVE, auto=True),
        "SingleStream: how long one answer is expected to take (milliseconds). auto: from a measurement."),
    Setting("SEARCH", "qps", SomeOf(("qps", "engine")),
        "What tune searches: qps is the highest load that stays VALID, engine the engine's settings."),
    Setting("PROBE_S", "90", number(float, 0.1),
        "How long a probe of tune sends queries (seconds); each probe sends at least 500."),
))

DATA = Group("Dataset and model", (
    Setting("DATASET_SOURCE", AUTO, text,
        "Dataset: auto tries mlcommons, huggingface, synthetic, in this order; or one of these names; or a "
        "path to cnn_eval.json, to a folder that holds it, or to JSON Lines with article and highlights."),
    Setting("MODEL", AUTO, text,
        "Model: auto tries mlcommons, huggingface, stand-in, in this order; or one of these names; or a "
        "path; or a Hub id; or stand-in-8b: the stand-in in Llama-3.1-8B's shape, to measure speed without "
        "the gated model (16 GB); or random, random-fp8: the same shape with random weights, for a quick "
        "look."),
    Setting("CALIBRATION", AUTO, text,
        "Calibration articles, for static scales of FP8: auto tries mlcommons, huggingface, in this order; "
        "or one of these names; or a path to cnn_dailymail_calibration.json, to a folder that holds it, or "
        "to JSON Lines with article and highlights. quantize uses none where it is auto."),
    Setting("SOURCE_STALL_S", "20", number(float, 1, 30),
        "A source of the dataset or the model that transfers nothing for this long is given up "
        "(seconds, 1 to 30)."),
    Setting("SOURCE_TIMEOUT_S", "7200", number(float, 1),
        "A source that takes longer than this in all is given up (seconds)."),
    Setting("MLC_REPO", "mlcommons@mlperf-automations", address,
        "Script repository of mlcr, for the sources named mlcommons (owner@name of GitHub)."),
    Setting("R2_BASE_URL", "https://inference.mlcommons-storage.org/metadata", address,
        "Where MLCommons keeps the metadata of its dataset files (URL)."),
    Setting("R2_MODEL_URL", "https://llama3-1.mlcommons-storage.org/metadata", address,
        "Where MLCommons keeps the metadata of its model files (URL; needs the CF_ACCESS_ token)."),
))

ENGINE = Group("Engine", (
    Setting("ENGINE", "vllm", engine,
        "Engine: vllm; or the addresses of servers that run already, with commas (http://HOST:PORT), to "
        "measure them: the speed of an endpoint, never a result (docs/endpoints.md); or fake, which gives "
        "scripted answers, to test the pipeline: never a result."),
    Setting("PRESET", AUTO, text,
        "Engine settings for a kind of GPU (name or path). auto: by this machine's GPU."),
    Setting("DTYPE", AUTO, OneOf((AUTO, "bfloat16", "float16", "float32")),
        "Number format of weights and activations."),
    Setting("QUANTIZATION", AUTO, text,
        "Quantisation made while loading: int8 (inputs too), fp8 (inputs too where the GPU multiplies FP8), "
        "or another word of vLLM's. auto: what the checkpoint is, else the preset's."),
    Setting("SCALES", AUTO, OneOf((AUTO, "static", "dynamic")),
        "Scales of FP8's inputs and KV cache: static ones are made once from the calibration articles, "
        "dynamic ones need no data. auto: static where the GPU multiplies FP8 and the articles can be had."),
    Setting("KV_CACHE_DTYPE", AUTO, text,
        "Number format of the KV cache, in vLLM's words. auto: the preset's."),
    Setting("MAX_NUM_SEQS", AUTO, number(int, 1, auto=True),
        "Sequences in one batch (count). auto: the preset's."),
    Setting("MAX_NUM_BATCHED_TOKENS", AUTO, number(int, 1, 65536, auto=True),
        "Tokens in one engine step (count, at most 65536). auto: the preset's."),
    Setting("GPU_MEMORY_UTILIZATION", AUTO, number(float, 0.1, 1, auto=True),
        "Share of the GPU's memory that vLLM may take (0.1 to 1). auto: the preset's."),
    Setting("GPUS", "all", gpus,
        "GPUs of this host to use: a count, or nvidia-smi numbers with commas (3, is GPU 3 alone), or all. "
        "Each group of TENSOR_PARALLEL has a copy of the model; they share the requests."),
    Setting("TENSOR_PARALLEL", "1", number(int, 1),
        "GPUs that share one copy of the model (count)."),
    Setting("HOSTS", "", hosts,
        "Hosts whose GPUs are used: empty for this one; ray: every GPU of the Ray cluster at RAY_ADDRESS, or "
        "of this host by a Ray of its own; slurm: all hosts of the allocation; names with commas, reached "
        "through srun inside an allocation and through ssh elsewhere; join: members that others start. GPUS "
        "then holds for each host; with ray and join it is a count in all."),
    Setting("HEAD_ADDRESS", AUTO, head_address,
        "Where other hosts reach this one (HOST or HOST:PORT). auto: the address of the route to them, and "
        "any free port."),
    Setting("SERVE_ADDRESS", "127.0.0.1:8000", serve_address,
        "Where serve listens (HOST:PORT). Whoever reaches it may use the engine: set ENDPOINT_API_KEY where "
        "that is more than this host."),
    Setting("CONCURRENCY", AUTO, concurrency,
        "Curve of MLPerf Endpoints: lowest and highest number of requests at once (LOWEST-HIGHEST; the "
        "lowest from 1 to 32, the highest above 32). auto: from 16 to the sequences in one batch."),
    Setting("ENGINE_ARGS", "{}", json_object,
        "Further engine arguments of vLLM (JSON object)."),
    Setting("IGNORE_EOS", "0", switch,
        "Let every answer run to 128 tokens, past its end token (0 or 1): to measure speed, never "
        "submittable."),
    Setting("SEED", "0", number(int, 0),
        "Seed of everything random outside LoadGen (whole number)."),
))

RESULTS = Group("Scoring, results, submission", (
    Setting("SCORE_WORKERS", AUTO, number(int, 1, auto=True),
        "Processes that score ROUGE (count). auto: one for each core."),
    Setting("RESULTS_DIR", "results", text,
        "Where run folders go (path)."),
    Setting("CACHE_DIR", "~/.cache/mlperf-llama", text,
        "Where models, datasets and prepared prompts are kept (path)."),
    Setting("VERBOSITY", NORMAL, OneOf((QUIET, NORMAL, DEBUG)),
        "What a run says on stderr. quiet: warnings, errors and the answer at the end; debug: also each step "
        "and run.log as it grows."),
    Setting("SUBMITTER", "", text,
        "Who submits, as named in the submission tree."),
    Setting("DIVISION", "closed", OneOf(("closed", "open")),
        "Division of the submission."),
    Setting("SYSTEM_FILE", "system.toml", text,
        "What a submission says of the system and the machine does not tell (path of a TOML file)."),
    Setting("PRICE_PER_HOUR", AUTO, number(float, POSITIVE, auto=True),
        "What an hour of the machine costs (in any one currency): the report then names the cost of a "
        "million answer tokens. auto: none is named."),
    Setting("INFERENCE_DIR", "", text,
        "Checkout of mlcommons/inference with the official checker (path). "
        "Empty: the image's, or a clone."),
))

TESTS = Group("Only to test the pipeline", (
    Setting("FAKE", "{}", json_object,
        "Script of the fake engine: answers, delays, faults (JSON object; docs/settings.md)."),
))

# Settings of Make and the scripts, which share the prefix and the .env file.
SHELL = Group("Container, native environment, make", (
    Setting("CONTAINER", AUTO, text,
        "Where runs happen: auto (container with a Docker engine and an NVIDIA GPU), 1 container, 0 native."),
    Setting("IMAGE", "", text,
        "Name of the image (repository:tag). Empty: made from the target."),
    Setting("TARGET", "", text,
        "Which build, for the image and for the native environment: cuda or cpu. "
        "Empty: by this machine's GPU; a finished native environment of the other build is then refused."),
    Setting("DOCKER", "docker", text,
        "Container command: docker or podman."),
    Setting("CONTAINER_ARGS", "", text,
        "Further flags for docker run or podman run (words with spaces between them)."),
    Setting("CA_BUNDLE", "", text,
        "CA certificates to trust while building and running, in a network with its own CA (path)."),
    Setting("ENV_FILE", ".env", text,
        "This file's own name, when it is not .env (path; only in the environment)."),
    Setting("VENV", ".venv", text,
        "Virtual environment of the native path (path), beside the scripts."),
    Setting("SIGN_KEY", "", text,
        "Key that signs the hashes of a run folder: an SSH key, or a minisign secret key (path). Empty: "
        "nothing is signed. The container is given no key: make sign signs afterwards."),
    Setting("ALLOWED_SIGNERS", "", text,
        "Whose signature counts: an allowed_signers file of ssh-keygen, or a minisign public key (path). "
        "Empty: anybody's, and none is asked for."),
    Setting("PACKAGES", "", text,
        "A folder with Python packages that the native environment lacks, such as vLLM on a host without pip "
        "(path). A run with it is never submittable."),
))

SECRET = Group("Secrets (empty: none); each may come as a file instead: NAME_FILE=/path", (
    Setting("HF_TOKEN", "", text,
        "Hugging Face token with access to meta-llama/Llama-3.1-8B-Instruct.", prefix=""),
    Setting("CF_ACCESS_CLIENT_ID", "", text,
        "Cloudflare Access service token for MLCommons' gated downloads: its id.", prefix=""),
    Setting("CF_ACCESS_CLIENT_SECRET", "", text,
        "Cloudflare Access service token for MLCommons' gated downloads: its secret.", prefix=""),
    Setting("CF_ACCESS_TOKEN", "", text,
        "In the service token's place: a log-in in a browser, as make auth gets it; it lasts for hours.",
        prefix=""),
    Setting("ENDPOINT_API_KEY", "", text,
        "Bearer token of the servers that ENGINE names; it is sent to them alone.", prefix=""),
    Setting("REPLICAS_TOKEN", "", text,
        "Lets the members of a run in that were started by hand; a run makes one up for those it starts.",
        prefix=""),
))
# fmt: on

PIPELINE = (RUN, DATA, ENGINE, RESULTS, TESTS)
TABLE = tuple(setting for group in PIPELINE for setting in group.settings)
BY_NAME = {setting.name: setting for setting in TABLE}
SHELL_NAMES = tuple(setting.name for setting in SHELL.settings)
SECRETS = tuple(setting.name for setting in SECRET.settings)
# Earlier names of settings, each with the one to use now.
RENAMED = {"RUNG_STALL_S": "SOURCE_STALL_S", "RUNG_TIMEOUT_S": "SOURCE_TIMEOUT_S", "DEBUG": "VERBOSITY"}
