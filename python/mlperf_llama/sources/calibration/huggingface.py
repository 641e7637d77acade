"""The published articles out of the training part of CNN/DailyMail 3.0.0 on the Hugging Face hub.

The same rows as MLCommons' file is made of (mlcommons/inference language/llama3.1-8b/prepare-calibration.py);
the token ids come from the model's own tokenizer.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...config import Config
from ...errors import MissingError
from ...records import files
from ..chain import Served
from ..dataset import store
from ..dataset.huggingface import REPOSITORY, REVISION, environment, probe
from ..fetch import child, hub, hub_cache
from ..fetch.publisher import Announcement
from . import official, training_rows

FILES = tuple(f"3.0.0/train-{number:05}-of-00003.parquet" for number in range(3))


@dataclass(frozen=True)
class Fetched(store.Fetched):
    """`parquet`: the hub's files that the rows were made of."""

    parquet: tuple[str, ...]


@dataclass(frozen=True)
class Proof:
    """What the bytes of the rows (`sha256`) and of the parquet files that they were made of prove now."""

    sha256: str
    reason: str = ""
    announced: Announcement | None = None


def serve(config: Config, env: Mapping[str, str]) -> Served:
    """The published articles, from the cache if they were fetched before.

    MissingError: the hub refuses or stalls, or it has not all of them.
    """
    folder = store.folder(config, "huggingface")
    target, record = folder / "calibration.jsonl", folder / "calibration.json"
    key = f"{REVISION}-{hub.endpoint(env)}"
    with store.turn(target):
        fetched = store.kept(record, key, Fetched)
        if fetched is None or any(hub_cache.is_damaged(Path(name)) for name in fetched.parquet):
            probe(config, env)
            parquet = _load(config, env, target)
            fetched = Fetched(key, str(target), files.digest(target), tuple(map(str, parquet)))
            store.keep(record, fetched)
    proof = prove(target, [Path(name) for name in fetched.parquet], env)
    return Served(
        source="huggingface",
        path=str(target),
        sha256=proof.sha256,
        eligible=not proof.reason,
        reason=proof.reason,
        rows=official.COUNT,
        revision=REVISION,
        details={
            "repository": REPOSITORY,
            "endpoint": hub.endpoint(env),
            "files": list(fetched.parquet),
            "proof": proof.announced.verified_by if proof.announced else None,
            "announcement": proof.announced.record() if proof.announced else None,
        },
    )


def prove(path: Path, parquet: Sequence[Path], env: Mapping[str, str]) -> Proof:
    """The rows must be the parquet files', and the files those that the hub announces now."""
    sha256 = files.digest(path)
    lines = training_rows.lines(parquet, official.article_ids())
    if sha256 != hashlib.sha256("".join(lines).encode()).hexdigest():
        return Proof(sha256, f"{path}: its rows are not those of the hub's files")
    unknown = f"no checksum verifies the files that came from {hub.endpoint(env)}"
    try:
        announced = hub.announce("datasets", REPOSITORY, REVISION, env)
    except MissingError as error:
        return Proof(sha256, f"{unknown}: {error}")
    if sorted(map(files.digest, parquet)) != sorted(announced.hashes.get(name, "") for name in FILES):
        return Proof(sha256, f"{unknown}: the hub announces other files")
    return Proof(sha256, announced=announced)


def _load(config: Config, env: Mapping[str, str], target: Path) -> list[Path]:
    """Run the child; `target` appears only when every article is in it. Gives its parquet files."""
    downloads = hub.repository_dir("datasets", REPOSITORY, env)
    hub_cache.drop_damaged(downloads)
    try:
        with files.atomic(target) as part:
            printed = child.run(
                f"huggingface: {REPOSITORY}'s training part from {hub.endpoint(env)}",
                (
                    sys.executable,
                    "-Ps",
                    "-m",
                    f"{__package__}.training_rows",
                    REPOSITORY,
                    REVISION,
                    part,
                    *FILES,
                ),
                env=child.with_package(environment(config, env)),
                stall_s=config.source_stall_s,
                timeout_s=config.source_timeout_s,
                progress=child.growth(downloads),
            )
            return [Path(str(name)) for name in json.loads(printed)]
    except OSError as error:
        raise store.unwritable(target, error) from None
