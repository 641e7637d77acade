"""MLCommons' own file: through its command `mlcr`, then straight from its R2 store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ... import rules
from ...config import Config
from ...credentials import user_info
from ...errors import MissingError, UsageError
from ..chain import Served
from ..fetch import mlcr, r2
from ..fetch.publisher import Announce
from . import official, store

log = logging.getLogger(__name__)

# README of mlcommons/inference language/llama3.1-8b.
TAGS = {
    category: ("get", "dataset", "cnndm", "_validation", f"_{category}", "_llama3", "_mlc", "_r2-downloader")
    for category in (rules.DATACENTER, rules.EDGE)
}


@dataclass(frozen=True)
class Fetched(store.Fetched):
    """`way`: mlcr or r2."""

    way: str


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """The official file, from the cache if it was fetched before; its bytes are judged in every run.

    MissingError: neither tool brought it; the reason names both in one line.
    """
    record = store.folder(config, "mlcommons") / f"{config.category}.json"
    key = " ".join((config.category, config.r2_base_url, config.mlc_repo))
    with store.turn(record):
        fetched = store.kept(record, key, Fetched)
        path, way = (Path(fetched.path), fetched.way) if fetched else _fetch(config, env)
        examined = _examine(path, config, env)
        if examined.rows != config.full_sample_count:
            raise MissingError(f"{path}: expected {config.full_sample_count} rows, found {examined.rows}")
        if fetched is None:
            store.keep(record, Fetched(key, str(path), examined.sha256, way))
    return Served(
        source="mlcommons",
        path=str(path),
        sha256=examined.sha256,
        eligible=examined.eligible,
        reason=examined.reason,
        rows=config.full_sample_count,
        details={**examined.details, "way": way, "doubts": list(examined.mismatches)},
    )


def announcement(config: Config, env: Mapping[str, str]) -> Announce:
    """Asks MLCommons' own store for the category's MD5 list; a mirror (R2_BASE_URL) is refused."""
    return lambda: r2.announce(_uri(config), env)


def _uri(config: Config) -> str:
    return f"{config.r2_base_url.rstrip('/')}/{official.OFFICIAL[config.category].uri_name}.uri"


def _fetch(config: Config, env: Mapping[str, str]) -> tuple[Path, str]:
    """The file and the tool that fetched it. The two tools share the source's stall limit."""
    stall_s = config.source_stall_s / 2
    dest = store.folder(config, "mlcommons", config.category)
    login = user_info("R2_BASE_URL", config.r2_base_url, env)
    tools: dict[str, Callable[[], Path]] = {
        "mlcr": lambda: mlcr.run(TAGS[config.category], config, env, stall_s),
        "r2": lambda: r2.download(_uri(config), dest, env, stall_s, config.source_timeout_s, login),
    }
    reasons = []
    for tool, fetch in tools.items():
        log.info("fetching tool=%s category=%s", tool, config.category)
        try:
            return _only_file(fetch(), config.category), tool
        except MissingError as error:
            reasons.append(str(error) if str(error).startswith(tool) else f"{tool}: {error}")
            log.info("not_fetched tool=%s reason=%s", tool, error)
    raise MissingError("; then ".join(reasons))


def _only_file(folder: Path, category: str) -> Path:
    file = official.find(folder, category)
    if file is None or file.name not in official.names(category):
        raise MissingError(f"expected {' or '.join(official.names(category))} in {folder}, found none")
    return file


def _examine(path: Path, config: Config, env: Mapping[str, str]) -> official.Examined:
    """A fault in a fetched file is the source's, not the user's: the next source may serve."""
    try:
        return official.examine(path, config.category, announcement(config, env))
    except UsageError as error:
        path.unlink(missing_ok=True)
        raise MissingError(str(error)) from None
