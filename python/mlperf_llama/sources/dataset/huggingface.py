"""CNN/DailyMail 3.0.0 from the Hugging Face hub, the rows the reference prepares itself.

Prompts and token ids are made by prepare.py, so the result is the official input only with
the reference tokenizer; the run decides that with the model at hand.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ... import rules
from ...config import Config, secret
from ...credentials import without_secrets
from ...errors import MissingError, UsageError
from ...records import files
from ..chain import Served
from ..fetch import child, http, hub
from . import official, store
from .rows import read_rows

log = logging.getLogger(__name__)

# The hub's own name of rules.DATASET_ID, and the revision public work pins (18 January 2024).
REPOSITORY = f"abisee/{rules.DATASET_ID}"
REVISION = "96df5e686bee6baa90b8bee7c28b81fa3fa6223d"
FILE = f"{rules.DATASET_CONFIG}/validation-00000-of-00001.parquet"
# The file's SHA-256 as one public evaluation script pins it; the hub announces its own as well.
SHA256 = "65a5ccce932b08f050114ce6e3c39355d563fa24f194052bb2f27d1c6c499c91"
OFFLINE_NAMES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
TOKEN_ADVICE = f"set HF_TOKEN to a valid token of {hub.TOKENS_PAGE}, or unset it"


@dataclass(frozen=True)
class Parquet:
    """The file's SHA-256, and the one that the hub announced."""

    sha256: str
    announced: str


@dataclass(frozen=True)
class Fetched(store.Fetched):
    file: Parquet


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """All rows of the split, or edge's 5,000, from the cache if they were fetched before.

    MissingError: `datasets` is not here, the hub refuses or stalls, or the rows are not those.
    """
    folder = store.folder(config, "huggingface")
    target, record = folder / f"{config.category}.jsonl", folder / f"{config.category}.json"
    endpoint = hub.endpoint(env)
    key = f"{REVISION}-{config.category}-{endpoint}"
    fetched = store.kept(record, key, Fetched)
    if fetched is None:
        if find_spec("datasets") is None:
            raise MissingError("huggingface: expected the package datasets, found none installed")
        _probe(config, env)
        file = _load(config, env, folder, target)
        fetched = Fetched(key, str(target), files.digest(target), file)
        store.keep(record, fetched)
    verified_by = _verified_by(endpoint, fetched.file)
    return Served(
        source="huggingface",
        path=fetched.path,
        sha256=fetched.sha256,
        eligible=bool(verified_by),
        reason="" if verified_by else f"no checksum verifies the file that came from {endpoint}",
        rows=config.full_sample_count,
        revision=REVISION,
        details={
            "repository": REPOSITORY,
            "endpoint": endpoint,
            "file_sha256": fetched.file.sha256,
            "proof": verified_by or None,
            "needs_reference_tokenizer": True,
        },
    )


def _verified_by(endpoint: str, file: Parquet) -> str:
    """The checksum of the parquet file: our pin, or the hub's own announcement; empty without one."""
    if file.sha256 == SHA256:
        return official.PINNED
    return "the hub's checksum" if endpoint == hub.ENDPOINT and file.announced == file.sha256 else ""


def _probe(config: Config, env: Mapping[str, str]) -> None:
    """Ask for the revision: a refusal shows here at once, where the libraries would retry."""
    if any(env.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE_NAMES):
        return
    token = secret("HF_TOKEN", env)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    patience = http.Patience(config.source_stall_s / 2, config.source_stall_s)
    try:
        http.get(f"{hub.endpoint(env)}/api/datasets/{REPOSITORY}/revision/{REVISION}", patience, headers)
    except http.Refused as error:
        advice = f"; {TOKEN_ADVICE}" if error.status in (401, 403) else ""
        raise MissingError(f"huggingface: {error}{advice}") from None
    except MissingError as error:
        raise MissingError(f"huggingface: {error}") from None


def _load(config: Config, env: Mapping[str, str], folder: Path, target: Path) -> Parquet:
    """Run the child and check what it wrote; `target` appears only when it is right."""
    scratch = folder / "arrow"
    samples = config.full_sample_count if config.category == rules.EDGE else 0
    downloads = hub.cache_dir(env) / f"datasets--{REPOSITORY.replace('/', '--')}"
    measures = [child.growth(watched) for watched in (downloads, scratch)]
    script = Path(__file__).with_name("hub_child.py")
    try:
        with files.atomic(target) as part:
            printed = child.run(
                f"huggingface: {FILE} from {hub.endpoint(env)}",
                (sys.executable, "-P", script, REPOSITORY, REVISION, FILE, str(samples), part),
                env=_environment(config, env, scratch),
                stall_s=config.source_stall_s,
                timeout_s=config.source_timeout_s,
                progress=lambda: (part.stat().st_size, *(measure() for measure in measures)),
            )
            rows = len(read_rows(part))
            if rows != config.full_sample_count:
                raise MissingError(f"huggingface: expected {config.full_sample_count} rows, found {rows}")
            file = Path(printed)
            return Parquet(files.digest(file), announced=file.name)
    except UsageError as error:
        raise MissingError(f"huggingface: {error}") from None
    except OSError as error:
        raise store.unwritable(target, error) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _environment(config: Config, env: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """The child's environment: the token, short time-outs, and silence.

    Silence, because each of the libraries' retries would be logged and count as progress.
    """
    token = secret("HF_TOKEN", env)
    limit = str(max(1, int(config.source_stall_s / 2)))
    return {
        **without_secrets(env),
        **({"HF_TOKEN": token} if token else {}),
        "HF_DATASETS_CACHE": str(scratch),
        "HF_HUB_DOWNLOAD_TIMEOUT": limit,
        "HF_HUB_ETAG_TIMEOUT": limit,
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_VERBOSITY": "critical",
        "DATASETS_VERBOSITY": "critical",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
