"""What `make run` will do with these settings here: on what, for how long, and whether it will count.

Nothing is started and nothing is asked of the network: what the hub or MLCommons would answer, only the
run will know.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import rules
from ..config import Config, secret
from ..engine.preset import choose_preset
from ..engine.replicas.plan import chosen_gpus, members
from ..errors import PipelineError
from ..machine import roofline
from ..machine.gpu_table import find_gpu
from ..records.schema import Gpu
from ..settings import AUTO
from ..sources import model as models
from ..sources.fetch import hub, r2
from . import planner
from .scope import CPU_SAMPLES

# GB: the weights in 16 bits; both parts of CNN/DailyMail with what is made of them; the environment as it is
# unpacked (docs/container.md); the stand-in; logs and records of one full scenario.
WEIGHTS_GB, DATA_GB, STAND_IN_GB, RUN_GB = 16.1, 1.0, 0.3, 0.2
ENVIRONMENT_GB = {"cuda": 7.4, "cpu": 2.2}
# What comes on top of the LoadGen runs: loading, compiling, warm-up and scoring, warm and at the first start.
AROUND_MINUTES = {"cuda": (3, 15), "cpu": (1, 6)}
WIDTH = 100  # columns of text
STAND_IN_WHY = "neither HF_TOKEN nor MLCommons' token is set, and the weights are not in the hub's cache"


@dataclass(frozen=True)
class Line:
    """One thing that is known beforehand. `good` False: it is a reason why the run will not count.
    `to_fetch`: it tells of weights that are fetched first."""

    name: str
    text: str
    good: bool = True
    to_fetch: bool = False


def lines(config: Config, gpus: Sequence[Gpu], env: Mapping[str, str]) -> list[Line]:
    """Everything that can be said before a run starts."""
    if config.endpoints:
        return _of_servers(config)
    used = chosen_gpus(config, gpus)
    weights = weights_line(config, env)
    against = not_submittable(config, used, weights)
    return [
        Line("runs on", _machine(config, used)),
        *_speed(config, used),
        Line("time", _time(config, used)),
        weights,
        Line("dataset", _dataset(config)),
        Line("disk and download", _disk(config, used, weights)),
        Line("submittable", against or "yes, if each run is VALID and reaches its accuracy", not against),
    ]


def _of_servers(config: Config) -> list[Line]:
    """With ENGINE naming servers: they alone know their speed."""
    count = len(config.endpoints)
    servers = f"{count} servers that run" if count > 1 else "a server that runs"
    return [
        Line("runs on", f"{servers} already, {', '.join(config.endpoints)}; no GPU of this host is used"),
        Line("time", "by the servers' speed, which the warm-up measures"),
        Line("weights", f"those of the server; the tokenizer of {config.model} makes the prompts", False),
        Line("dataset", _dataset(config)),
        Line("submittable", "no: a server cannot show the hash of the weights that it loaded", False),
    ]


def render(expectations: Sequence[Line]) -> str:
    """The lines as text, wrapped, each behind its name."""
    width = max(len(line.name) for line in expectations) + 2
    return "\n".join(
        textwrap.fill(line.text, WIDTH, initial_indent=f"{line.name:<{width}}", subsequent_indent=" " * width)
        for line in expectations
    )


def _build(gpus: Sequence[Gpu]) -> str:
    return "cuda" if gpus else "cpu"


def _machine(config: Config, gpus: Sequence[Gpu]) -> str:
    if config.engine == "fake":
        return "the fake engine: no model, made-up answers"
    if not gpus:
        return f"this CPU, by vLLM's CPU build; {config.samples or CPU_SAMPLES} samples, which is a trial"
    preset = choose_preset(config, gpus[0])
    precision = roofline.precision_of(preset.engine, find_gpu(gpus[0])) or "its own precision"
    engines = len(members(config, gpus))
    copies = f", {engines} copies of the model" if engines > 1 else ""
    return f"{len(gpus)} x {gpus[0].name} by vLLM, preset {preset.name}, {precision}{copies}"


def _speed(config: Config, gpus: Sequence[Gpu]) -> list[Line]:
    """What Offline is expected to reach; nothing where the card is not known."""
    if config.engine == "fake" or not gpus:
        return []
    speed = planner.expected_speed(choose_preset(config, gpus[0]), gpus[0])
    if speed is None:
        return [Line("speed", f"{gpus[0].name} is not in the table of GPUs: the warm-up will measure it")]
    each = " for each GPU" if len(gpus) > 1 else ""
    text = f"Offline {speed.words}{each} expected, of a limit of {speed.limit:.3g}: {speed.source}"
    return [Line("speed", text)]


def _time(config: Config, gpus: Sequence[Gpu]) -> str:
    """Minutes of LoadGen, as far as they can be known, and what comes around them."""
    warm, first = AROUND_MINUTES[_build(gpus)]
    around = f"loading, warm-up and scoring take about {warm} min more, at the first start {first}"
    if config.engine == "fake" or not gpus:
        return f"LoadGen runs of {config.samples or CPU_SAMPLES} samples, a minute or a few; {around}"
    total_s = planner.total_seconds(config, gpus)
    if total_s is None:
        return f"LoadGen runs of 10 min or more each; {around}"
    return f"LoadGen runs of about {planner.duration(total_s)} in all; {around}"


def weights_line(config: Config, env: Mapping[str, str]) -> Line:
    """Which weights will be served, without asking anybody."""
    if config.engine == "fake":
        return Line("weights", "none", False)
    if config.model not in (AUTO, *planner.OFFICIAL):
        made_up = config.model in models.NAMED or config.model == "stand-in"
        path = f"{config.model}, official if its bytes are"
        return Line("weights", f"{config.model}, which never counts" if made_up else path, not made_up)
    if _in_hub_cache(env):
        return Line("weights", "Llama-3.1-8B-Instruct, in the hub's cache")
    sources = [name for name, is_set in _tokens(env).items() if is_set]
    if sources:
        text = f"Llama-3.1-8B-Instruct from {' or '.join(sources)}, {WEIGHTS_GB:g} GB to fetch"
        return Line("weights", text, to_fetch=True)
    return Line("weights", f"the stand-in, SmolLM2-135M-Instruct: {STAND_IN_WHY}", False)


def _tokens(env: Mapping[str, str]) -> dict[str, bool]:
    """Which of the two official sources has its token."""
    try:
        return {"MLCommons": bool(r2.token_headers(env)), "Hugging Face": secret("HF_TOKEN", env) is not None}
    except PipelineError:
        return {}


def _in_hub_cache(env: Mapping[str, str]) -> bool:
    folder = hub.repository_dir("models", rules.MODEL_ID, env) / "snapshots"
    return any(folder.glob("*/*.safetensors"))


def _dataset(config: Config) -> str:
    source = config.dataset_source
    if source.lower() not in (AUTO, "mlcommons", "huggingface", "synthetic"):
        return f"{source}, official if its bytes are"
    if source.lower() == "synthetic":
        return "made-up articles, which never count"
    return (
        "CNN/DailyMail from MLCommons, else from Hugging Face; made-up articles where neither can be reached"
    )


def _disk(config: Config, gpus: Sequence[Gpu], weights: Line) -> str:
    """GB that the first run writes, with the environment; and what later ones add."""
    environment = ENVIRONMENT_GB[_build(gpus)]
    fetched = 0.0
    if config.engine != "fake":
        fetched = WEIGHTS_GB + DATA_GB if weights.to_fetch else STAND_IN_GB
    run_gb = RUN_GB * len(config.scenario) if gpus else 0.01
    place = Path(config.cache_dir).expanduser()
    return (
        f"at the first run {fetched:.3g} GB fetched into {place} at most, and {environment:g} GB for the "
        f"environment; {run_gb:.2g} GB per run folder"
    )


def not_submittable(config: Config, gpus: Sequence[Gpu], weights: Line) -> str:
    """Why a run with these settings can be no submission; empty where nothing is known against it."""
    never = []
    if not weights.good:
        never.append(f"the weights would be {weights.text.partition(':')[0].partition(',')[0]}")
    if not gpus and config.category == rules.DATACENTER:
        never.append("the datacenter category needs a GPU")
    if not gpus or (config.samples is not None and config.samples < config.full_sample_count):
        never.append("the run covers a part of the samples")
    if config.ignore_eos:
        never.append("IGNORE_EOS is for speed alone")
    if never:
        return f"no: {'; '.join(never)}"
    lacking = [mode for mode in rules.MODES if mode not in config.mode]
    lacking += [
        " or ".join(any_of)
        for any_of in rules.REQUIRED_SCENARIOS[config.category]
        if not set(any_of) & set(config.scenario)
    ]
    if not lacking:
        return ""
    return f"not by this run alone: it lacks {', '.join(lacking)}; `make submission` runs all"
