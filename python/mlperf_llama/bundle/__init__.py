"""Model, articles, calibration articles and MLCommons' checker, gathered where a machine without a network
finds them (scripts/bundle.sh, scripts/load.sh).

The fallback chains serve into the bundle's own caches, so what was fetched is not fetched again, and each
source finds there what it would have fetched. A path of the user's is copied.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import Config
from ..errors import MissingError, PipelineError
from ..records.files import atomic, digest, read_object, write_text
from ..settings import PREFIX
from ..sources import calibration, dataset, model
from ..sources.chain import Served
from ..sources.fetch import cached
from ..submission import official

log = logging.getLogger(__name__)

FILE = "bundle.env"
# The folder that the caches' records speak of.
PLACE = "place"
# What load.sh puts the bundle's place for.
HERE = "@BUNDLE@"
GB = 1e9
# Sizes as they are fetched, rounded up; the weights are the four shards of Llama-3.1-8B-Instruct.
WHEELS_GB = {"cpu": 1.0, "cuda": 6.0}
WEIGHTS_GB, STAND_IN_GB, ARTICLES_GB, CHECKER_GB = 16.1, 0.7, 0.3, 0.05
# Sources that find their own files again in the bundle's caches, by their names; of the others the path.
BY_NAME = ("huggingface", "stand-in", "synthetic")
Report = Callable[[str], None]


@dataclass(frozen=True)
class Part:
    """One part of a bundle, and its size in GB at most."""

    name: str
    gigabytes: float


def parts(config: Config, build: str) -> list[Part]:
    """What will be gathered, largest first."""
    stand_in = config.model == "stand-in"
    weights = Part("model (the stand-in)", STAND_IN_GB) if stand_in else Part("model", WEIGHTS_GB)
    return [
        weights,
        Part(f"wheels of the {build} build, LoadGen's three versions, NLTK's data, tests", WHEELS_GB[build]),
        Part("articles and calibration articles", ARTICLES_GB),
        Part("MLCommons' checker, this checkout", CHECKER_GB),
    ]


def say_sizes(target: Path, config: Config, build: str, report: Report) -> None:
    """Every part with its size, before anything is fetched. MissingError: the disk does not hold them."""
    listed = parts(config, build)
    for part in listed:
        report(f"  {part.gigabytes:5.1f} GB  {part.name}")
    held = sum(path.stat().st_size for path in target.rglob("*") if path.is_file() and not path.is_symlink())
    free = shutil.disk_usage(target).free
    most_gb = sum(part.gigabytes for part in listed)
    needed = max(0.0, most_gb * GB - held)
    report(
        f"  {most_gb:5.1f} GB  in all at most, {held / GB:.1f} GB of it here; "
        f"{free / GB:.1f} GB are free in {target}"
    )
    if free < needed:
        raise MissingError(
            f"BUNDLE: expected {needed / GB:.1f} GB free in {target}, found {free / GB:.1f} GB: "
            "name a folder on another disk, or MODEL=stand-in"
        )


def gather(target: Path, config: Config, env: Mapping[str, str], build: str, report: Report) -> list[str]:
    """Fill the bundle; its settings. What cannot be had is said and left out, but model and articles."""
    inside = replace(config, cache_dir=str(target / "cache"))
    env = {**env, "HF_HUB_CACHE": str(target / "hub")}
    # The children of sources and datasets' own libraries look there.
    os.environ["HF_HUB_CACHE"] = env["HF_HUB_CACHE"]
    settings = {
        "CONTAINER": "0",
        "CACHE_DIR": f"{HERE}/cache",
        "MODEL": _serve("model", target, inside, env, report),
        "DATASET_SOURCE": _serve("dataset", target, inside, env, report),
    }
    try:
        settings["CALIBRATION"] = _serve("calibration", target, inside, env, report)
    except MissingError as error:
        report(f"left out: calibration articles, needed for static FP8 scales alone: {error}")
    try:
        settings["INFERENCE_DIR"] = _checker(target, inside)
    except PipelineError as error:
        report(f"left out: MLCommons' checker, so make check asks ours alone: {error}")
    lines = [f"build={build}", f"python={sys.version_info.major}.{sys.version_info.minor}"]
    lines += [f"machine={platform.machine()}"]
    lines += [f"setting {PREFIX}{name}={value}" for name, value in settings.items() if value]
    outside = {
        "HF_HUB_CACHE": f"{HERE}/hub",
        "HF_HUB_OFFLINE": "1",
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": f"{HERE}/wheels",
    }
    lines += [f"setting {name}={value}" for name, value in outside.items()]
    write_text(target / FILE, "\n".join(lines) + "\n")
    write_text(target / PLACE, f"{target}\n")
    return lines


def settle(target: Path) -> None:
    """Where the bundle lies now, in the caches' own records, after its files have been verified."""
    former = (target / PLACE).read_text(encoding="utf-8").strip()
    for record in sorted((target / "cache/dataset").rglob("*.json")):
        text = record.read_text(encoding="utf-8")
        if f"{former}/" in text:
            write_text(record, text.replace(f"{former}/", f"{target}/"))
    for record in sorted((target / "cache").rglob(cached.COMPLETE)):
        listed = read_object(record).get("files")
        cached.mark_complete(record.parent, sorted(listed) if isinstance(listed, dict) else [])
    write_text(target / PLACE, f"{target}\n")


def _chain(kind: str, config: Config) -> tuple[str, ...]:
    chains = {"model": model.chain, "dataset": dataset.chain, "calibration": calibration.chain}
    return chains[kind](config)


def _serve(kind: str, target: Path, config: Config, env: Mapping[str, str], report: Report) -> str:
    """The first source that serves; the setting's value on the other machine."""
    serve = {"model": model.serve, "dataset": dataset.serve, "calibration": calibration.serve}[kind]
    reasons = []
    for source in _chain(kind, config):
        report(f"{kind}: {source}")
        try:
            served = serve(source, config, env)
        except MissingError as error:
            report(f"{kind}: {source} cannot serve: {error}")
            reasons.append(f"{source}: {error}")
            continue
        report(f"{kind}: {served.source}, sha256 {served.sha256}")
        return _value(kind, target, served)
    raise MissingError(f"no {kind} could be had: {'; '.join(reasons)}")


def _value(kind: str, target: Path, served: Served) -> str:
    """By name where the source finds its files again; else by path, inside the bundle."""
    if served.source in BY_NAME:
        return served.source
    path = Path(served.path).absolute()
    if not path.is_relative_to(target):
        copied = target / kind / path.name
        _copy(path, copied)
        path = copied
    return f"{HERE}/{path.relative_to(target)}"


def _checker(target: Path, config: Config) -> str:
    """A checkout that the user names is copied, but for its history; another is cloned into the cache."""
    checkout = official.find(config)
    if checkout.is_relative_to(target):
        return ""
    _copy(checkout / official.TOOLS, target / "inference" / official.TOOLS)
    return f"{HERE}/inference"


def _copy(source: Path, target: Path) -> None:
    """Files alone; those that are there and the same are left."""
    for file in _files(source):
        copied = target / file.relative_to(source) if source.is_dir() else target
        if (
            copied.is_file()
            and copied.stat().st_size == file.stat().st_size
            and digest(copied) == digest(file)
        ):
            continue
        copied.parent.mkdir(parents=True, exist_ok=True)
        with atomic(copied) as temporary:
            shutil.copyfile(file, temporary)


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
        return
    for path in sorted(source.rglob("*")):
        if path.is_file() and ".git" not in path.parts and "__pycache__" not in path.parts:
            yield path


__all__ = ["FILE", "HERE", "PLACE", "gather", "parts", "say_sizes", "settle"]
