"""MLCommons' own file: through its command `mlcr`, then straight from its R2 store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from ... import rules
from ...config import Config
from ...errors import MissingError, UsageError
from ...settings import BY_NAME
from ..chain import Served
from ..fetch import mlcr, r2
from . import official, store

log = logging.getLogger(__name__)

# README of mlcommons/inference language/llama3.1-8b.
TAGS = {
    category: ("get", "dataset", "cnndm", "_validation", f"_{category}", "_llama3", "_mlc", "_r2-downloader")
    for category in (rules.DATACENTER, rules.EDGE)
}


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """The official file, from the cache if it was fetched before.

    MissingError: neither way brought it; the reason names both in one line.
    """
    record = store.folder(config, "mlcommons") / f"{config.category}.json"
    key = " ".join((config.category, config.r2_base_url, config.mlc_repo))
    facts = store.kept(record, key)
    if facts is None:
        path, way = _fetch(config, env)
        examined = _examine(path, config.category)
        if examined.rows != config.full_sample_count:
            raise MissingError(f"{path}: expected {config.full_sample_count} rows, found {examined.rows}")
        facts = store.keep(
            record,
            key=key,
            path=str(path),
            sha256=examined.sha256,
            way=way,
            doubts=list(examined.doubts),
            details=examined.details,
        )
    # A mirror's own MD5 list proves nothing; the SHA-256 does, wherever the file came from.
    eligible = _is_official_store(config) or facts["details"]["proof"] == "SHA-256"
    return Served(
        source="mlcommons",
        path=facts["path"],
        sha256=facts["sha256"],
        eligible=eligible,
        reason="" if eligible else "R2_BASE_URL or MLC_REPO is not MLCommons' own, and no checksum is known",
        rows=config.full_sample_count,
        details={**facts["details"], "way": facts["way"], "doubts": facts["doubts"]},
    )


def _is_official_store(config: Config) -> bool:
    return (config.r2_base_url, config.mlc_repo) == tuple(
        BY_NAME[name].default for name in ("R2_BASE_URL", "MLC_REPO")
    )


def _fetch(config: Config, env: Mapping[str, str]) -> tuple[Path, str]:
    """The file and the way it came. The two ways share the rung's stall limit."""
    stall_s = config.source_stall_s / 2
    name = official.OFFICIAL[config.category].uri_name
    dest = store.folder(config, "mlcommons", config.category)
    uri = f"{config.r2_base_url.rstrip('/')}/{name}.uri"
    ways: dict[str, Callable[[], Path]] = {
        "mlcr": lambda: mlcr.run(TAGS[config.category], config, env, stall_s),
        "r2": lambda: r2.download(uri, dest, env, stall_s, config.source_timeout_s),
    }
    reasons = []
    for way, fetch in ways.items():
        log.info("fetching way=%s category=%s", way, config.category)
        try:
            found = _only_file(fetch(), config.category)
            return found, way
        except MissingError as error:
            reasons.append(str(error) if str(error).startswith(way) else f"{way}: {error}")
            log.info("left way=%s reason=%s", way, error)
    raise MissingError("; then ".join(reasons))


def _only_file(folder: Path, category: str) -> Path:
    found = official.find(folder, category)
    if found is None or found.name not in official.names(category):
        raise MissingError(f"expected {' or '.join(official.names(category))} in {folder}, found none")
    return found


def _examine(path: Path, category: str) -> official.Examined:
    """A fault in a fetched file is the source's, not the user's: the next rung may serve."""
    try:
        return official.examine(path, category, proof="the MD5 list of the R2 store")
    except UsageError as error:
        path.unlink(missing_ok=True)
        raise MissingError(str(error)) from None
