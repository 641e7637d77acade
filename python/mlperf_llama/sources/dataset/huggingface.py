"""CNN/DailyMail 3.0.0 from the Hugging Face hub, the rows the reference prepares itself.

Prompts and token ids are made by prepare.py, so the result is the official input only with
the reference tokenizer; the run decides that with the model at hand.
"""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ... import rules
from ...config import Config, secret
from ...credentials import without_secrets
from ...errors import MissingError, UsageError
from ...records import files
from .. import pins
from ..chain import Served
from ..fetch import child, http, hub, hub_cache
from ..fetch.publisher import Announcement
from . import official, parquet, store
from .rows import read_rows

log = logging.getLogger(__name__)

# The hub's own name of rules.DATASET_ID, and the revision public work pins (18 January 2024).
REPOSITORY = f"abisee/{rules.DATASET_ID}"
REVISION = "96df5e686bee6baa90b8bee7c28b81fa3fa6223d"
FILE = f"{rules.DATASET_CONFIG}/validation-00000-of-00001.parquet"
SHA256 = pins.PARQUET
TOKEN_ADVICE = f"set HF_TOKEN to a valid token of {hub.TOKENS_PAGE}, or unset it"


@dataclass(frozen=True)
class Fetched(store.Fetched):
    """`parquet`: the hub's file that the rows were made of."""

    parquet: str


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """All rows of the split, or edge's 5,000, from the cache if they were fetched before.

    MissingError: `datasets` is not here, the hub refuses or stalls, or the rows are not those.
    """
    folder = store.folder(config, "huggingface")
    target, record = folder / f"{config.category}.jsonl", folder / f"{config.category}.json"
    endpoint = hub.endpoint(env)
    key = f"{REVISION}-{config.category}-{endpoint}"
    with store.turn(target):
        fetched = store.kept(record, key, Fetched)
        if fetched is None or hub_cache.is_damaged(Path(fetched.parquet)):
            if find_spec("datasets") is None:
                raise MissingError("huggingface: expected the package datasets, found none installed")
            probe(config, env)
            file = _load(config, env, folder, target)
            fetched = Fetched(key, str(target), files.digest(target), str(file))
            store.keep(record, fetched)
    proof = prove(Path(fetched.path), Path(fetched.parquet), config, env)
    return Served(
        source="huggingface",
        path=fetched.path,
        sha256=proof.sha256,
        eligible=bool(proof.verified_by),
        reason=proof.reason,
        rows=config.full_sample_count,
        revision=REVISION,
        details={
            "repository": REPOSITORY,
            "endpoint": endpoint,
            "file": fetched.parquet,
            "file_sha256": proof.file_sha256,
            "proof": proof.verified_by or None,
            "announcement": proof.announced.record() if proof.announced else None,
            "needs_reference_tokenizer": True,
        },
    )


@dataclass(frozen=True)
class Proof:
    """What the bytes of the rows (`sha256`) and of the parquet file that they were made of prove now."""

    sha256: str
    file_sha256: str
    verified_by: str = ""
    reason: str = ""
    announced: Announcement | None = None


def prove(path: Path, file: Path, config: Config, env: Mapping[str, str]) -> Proof:
    """The rows must be the parquet file's, and the file pinned, or announced by the hub now."""
    sha256, file_sha256 = files.digest(path), files.digest(file)
    if sha256 != parquet.rows_sha256(file, samples_of(config)):
        return Proof(sha256, file_sha256, reason=f"{path}: its rows are not those of {file}")
    if file_sha256 == SHA256:
        return Proof(sha256, file_sha256, official.PINNED)
    unknown = f"no checksum verifies the file that came from {hub.endpoint(env)}"
    try:
        announced = hub.announce("datasets", REPOSITORY, REVISION, env)
    except MissingError as error:
        return Proof(sha256, file_sha256, reason=f"{unknown}: {error}")
    if announced.hashes.get(FILE) != file_sha256:
        return Proof(sha256, file_sha256, reason=f"{unknown}: the hub announces another file")
    return Proof(sha256, file_sha256, announced.verified_by, announced=announced)


def samples_of(config: Config) -> int:
    """Rows to take after shuffling; 0: all of them, in their order."""
    return config.full_sample_count if config.category == rules.EDGE else 0


def probe(config: Config, env: Mapping[str, str]) -> None:
    """Ask for the revision: a refusal shows here at once, where the libraries would retry."""
    if hub.is_offline(env):
        return
    headers = http.bearer(secret("HF_TOKEN", env))
    patience = http.Patience(config.source_stall_s / 2, config.source_stall_s)
    try:
        http.get(f"{hub.endpoint(env)}/api/datasets/{REPOSITORY}/revision/{REVISION}", patience, headers)
    except http.Refused as error:
        advice = f"; {TOKEN_ADVICE}" if error.status in (401, 403) else ""
        raise MissingError(f"huggingface: {error}{advice}") from None
    except MissingError as error:
        raise MissingError(f"huggingface: {error}") from None


def _load(config: Config, env: Mapping[str, str], folder: Path, target: Path) -> Path:
    """Run the child, check what it wrote; `target` appears only when it is right. Gives its parquet file."""
    downloads = hub.repository_dir("datasets", REPOSITORY, env)
    hub_cache.drop_damaged(downloads)
    script = Path(__file__).with_name("hub_child.py")
    prefix = f".{target.name}.arrow."
    for left in folder.glob(f"{prefix}*"):  # of a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=prefix) as scratch, files.atomic(target) as part:
            measures = [child.growth(watched) for watched in (downloads, Path(scratch))]
            printed = child.run(
                f"huggingface: {FILE} from {hub.endpoint(env)}",
                (sys.executable, "-Ps", script, REPOSITORY, REVISION, FILE, str(samples_of(config)), part),
                env={**environment(config, env), "HF_DATASETS_CACHE": scratch},
                stall_s=config.source_stall_s,
                timeout_s=config.source_timeout_s,
                progress=lambda: (part.stat().st_size, *(measure() for measure in measures)),
            )
            rows = len(read_rows(part))
            if rows != config.full_sample_count:
                raise MissingError(f"huggingface: expected {config.full_sample_count} rows, found {rows}")
            return Path(printed)
    except UsageError as error:
        raise MissingError(f"huggingface: {error}") from None
    except OSError as error:
        raise store.unwritable(target, error) from None


def environment(config: Config, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child that asks the hub: the token, short time-outs, and silence.

    Silence, because each of the libraries' retries would be logged and count as progress.
    """
    token = secret("HF_TOKEN", env)
    limit = str(max(1, int(config.source_stall_s / 2)))
    return {
        **without_secrets(env),
        **({"HF_TOKEN": token} if token else {}),
        "HF_HUB_DOWNLOAD_TIMEOUT": limit,
        "HF_HUB_ETAG_TIMEOUT": limit,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_VERBOSITY": "critical",
        "DATASETS_VERBOSITY": "critical",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
