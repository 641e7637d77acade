"""Source `path`: the checkpoint folder or Hub id that MODEL names."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from ...config import Config, secret
from ...errors import MissingError, UsageError
from ...records.files import digest
from ..chain import Served
from ..fetch import hub, hub_cache
from ..fetch.http import Patience
from ..fetch.publisher import Announce
from . import checkpoint, proof, unchanged

log = logging.getLogger(__name__)

SERVER = "the server has the weights; this is the tokenizer of its prompts"
TRIAL = "a trial run (SAMPLES, IGNORE_EOS): the hashes of its weights are remembered, not made again"
# organisation/name, and a branch, tag or commit after @.
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w.-]+)(?:@([\w./-]+))?")


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """Check the folder, or download the repository; say whether it is the benchmark's model."""
    folder = Path(config.model).expanduser()
    if folder.exists():
        return describe(folder.absolute(), "path", config)
    match = _HUB_ID.fullmatch(config.model)
    if not match:
        raise UsageError(
            f"MODEL: expected auto, mlcommons, huggingface, stand-in, stand-in-8b, random, random-fp8, a "
            f"checkpoint folder or a Hub id (organisation/name, or organisation/name@revision), found "
            f"{config.model!r}"
        )
    repo, revision = match[1], match[2] or "main"

    def described(snapshot: Path) -> Served:
        return describe(snapshot, "path", config, revision=hub.commit(snapshot) or revision)

    served = from_cache(hub.find(repo, revision, env), config, described)
    if served is None:
        token = secret("HF_TOKEN", env)
        half = Patience(config.source_stall_s / 2, config.source_timeout_s)
        hub.check_access(repo, revision, token, env, half)
        served = described(download(repo, revision, token, config, env))
    return served


def from_cache(snapshot: Path | None, config: Config, described: Callable[[Path], Served]) -> Served | None:
    """What a snapshot of the hub's cache serves; None where there is none, or a file of it has to be fetched
    again."""
    if snapshot is None:
        return None
    fault = checkpoint.problem(snapshot, loads_weights(config)) or hub_cache.fault(snapshot)
    if not fault:
        try:
            return described(snapshot)
        except checkpoint.CorruptedError as error:
            fault = error.fault
    log.warning("%s; it is fetched again", fault)
    return None


def download(repo: str, revision: str, token: str | None, config: Config, env: Mapping[str, str]) -> Path:
    """The folder of a repository of the hub, whole; MissingError says what it lacks. Without the weights
    where the engine loads none."""
    weights = loads_weights(config)
    limits = config.source_stall_s, config.source_timeout_s
    folder = hub.snapshot(repo, revision, token, env, *limits, weights)
    if problem := checkpoint.problem(folder, weights):
        raise MissingError(f"{problem}; the next run fetches it again")
    return folder


def describe(
    folder: Path,
    source: str,
    config: Config,
    revision: str | None = None,
    announce: Announce = proof.pinned_only,
) -> Served:
    """The Served record of a folder. For an engine that loads none a tokenizer and config are enough.

    `announce`: asks the publisher that the folder came from.
    """
    weights = loads_weights(config)
    problem = checkpoint.problem(folder, weights)
    if problem:
        raise UsageError(f"MODEL: {problem}")
    if config.endpoints:
        return _tokenizer(folder, source, config, revision)
    trial = is_trial(config)
    remembered = trial or bool(checkpoint.other_model(folder))
    before = unchanged.states(folder)
    named = weights or checkpoint.shard_names(folder)
    hashes = checkpoint.digests(folder, config.cache_path, remembered=remembered) if named else {}
    broken = checkpoint.corrupted(folder, hashes)
    if broken:
        raise checkpoint.CorruptedError(broken)
    proved = proof.prove(folder, hashes, proof.trial if trial else announce)
    if proved.verified_by and trial:
        proved = proof.Proof(reason=TRIAL)
    if others := unchanged.changed(folder, before):
        raise UsageError(f"MODEL: {folder}: {', '.join(others[:4])} changed while it was hashed; run again")
    return Served(
        source=source,
        path=str(folder),
        sha256=checkpoint.combined(hashes),
        eligible=bool(proved.verified_by),
        reason=proved.reason,
        revision=revision,
        details={
            "shards": hashes,
            "hashes": "remembered by path, size and time" if remembered else "of the bytes, in this run",
            "proof": proved.verified_by or None,
            "announcement": proved.announced.record() if proved.announced else None,
            "model": config.model,
            "same_shape": not checkpoint.shape_difference(folder),
            **({} if remembered else {unchanged.KEY: before}),
        },
    )


def _tokenizer(folder: Path, source: str, config: Config, revision: str | None) -> Served:
    """The folder makes the prompts of a server, which has the weights."""
    files = [folder / name for name in checkpoint.TOKENIZERS]
    sha256 = digest(next(path for path in files if path.is_file()))
    return Served(
        source, str(folder), sha256, False, SERVER, revision=revision, details={"model": config.model}
    )


def loads_weights(config: Config) -> bool:
    """Whether the engine is one that loads the weights here."""
    return config.engine == "vllm"


def is_trial(config: Config) -> bool:
    """Whether its own settings keep the run from being submitted, whatever its weights are."""
    subset = config.samples is not None and config.samples < config.full_sample_count
    return subset or config.ignore_eos or not loads_weights(config)
