"""CNN/DailyMail 3.0.0 from the Hugging Face hub, the rows the reference prepares itself.

Prompts and token ids are made by prepare.py, so the result is the official input only with
the reference tokenizer; the run decides that with the model at hand.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ... import rules
from ...config import Config, secret
from ...errors import MissingError, UsageError
from ..chain import Served
from ..fetch import child, http, hub
from . import store
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


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """All rows of the split, or edge's 5,000, from the cache if they were fetched before.

    MissingError: `datasets` is not here, the hub refuses or stalls, or the rows are not those.
    """
    folder = store.folder(config, "huggingface")
    target, record = folder / f"{config.category}.jsonl", folder / f"{config.category}.json"
    endpoint = hub.endpoint(env)
    key = f"{REVISION}-{config.category}-{endpoint}"
    facts = store.kept(record, key)
    if facts is None:
        if find_spec("datasets") is None:
            raise MissingError("huggingface: expected the package datasets, found none installed")
        _probe(config, env)
        file = _load(config, env, folder, target)
        sha256, _ = store.digests(target)
        facts = store.keep(record, key=key, path=str(target), sha256=sha256, file=file)
    proof = _proof(endpoint, **facts["file"])
    return Served(
        source="huggingface",
        path=facts["path"],
        sha256=facts["sha256"],
        eligible=bool(proof),
        reason="" if proof else f"no checksum vouches for the file that came from {endpoint}",
        rows=config.full_sample_count,
        revision=REVISION,
        details={
            "repository": REPOSITORY,
            "endpoint": endpoint,
            "file_sha256": facts["file"]["sha256"],
            "proof": proof or None,
            "needs_reference_tokenizer": True,
        },
    )


def _proof(endpoint: str, sha256: str, announced: str) -> str:
    """What vouches for the parquet file: our pin, or the hub's own announcement of its SHA-256."""
    if sha256 == SHA256:
        return "SHA-256"
    return "the hub's checksum" if endpoint == hub.ENDPOINT and announced == sha256 else ""


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


def _load(config: Config, env: Mapping[str, str], folder: Path, target: Path) -> dict[str, str]:
    """Run the child and check what it wrote; `target` appears only when it is right.

    Gives what the child says of the parquet file: `sha256` and `announced`.
    """
    part = target.with_suffix(".part")
    scratch = folder / "arrow"
    samples = config.full_sample_count if config.category == rules.EDGE else 0
    downloads = hub.cache_dir(env) / f"datasets--{REPOSITORY.replace('/', '--')}"
    measures = [child.growth(place) for place in (downloads, scratch)]
    script = Path(__file__).with_name("hub_child.py")
    command = (sys.executable, "-P", script, REPOSITORY, REVISION, FILE, str(samples), part)
    try:
        said = child.run(
            f"huggingface: {FILE} from {hub.endpoint(env)}",
            command,
            env=_surroundings(config, env, scratch),
            stall_s=config.source_stall_s,
            timeout_s=config.source_timeout_s,
            progress=lambda: (_size(part), *(measure() for measure in measures)),
        )
        rows = len(read_rows(part))
        if rows != config.full_sample_count:
            raise MissingError(f"huggingface: expected {config.full_sample_count} rows, found {rows}")
        part.replace(target)
        file: dict[str, str] = json.loads(said)
        return file
    except UsageError as error:
        raise MissingError(f"huggingface: {error}") from None
    except OSError as error:
        raise store.unwritable(target, error) from None
    finally:
        part.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _surroundings(config: Config, env: Mapping[str, str], scratch: Path) -> dict[str, str]:
    """The child's environment: the token, short time-outs, and silence.

    Silence, because each of the libraries' retries would be logged and count as progress.
    """
    token = secret("HF_TOKEN", env)
    limit = str(max(1, int(config.source_stall_s / 2)))
    return {
        **env,
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
