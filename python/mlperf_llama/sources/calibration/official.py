"""MLCommons' own calibration file: its name, its address, and whether a file is it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ... import rules
from ...config import Config
from ...errors import BrokeError
from ...records.files import read_object
from .. import pins
from ..chain import Served
from ..dataset import official as dataset
from ..fetch import r2

# README of mlcommons/inference language/llama3.1-8b.
NAME = "cnn_dailymail_calibration.json"
COUNT = rules.CALIBRATION_COUNT
OFFICIAL = dataset.Official(
    (NAME,), "llama3-1-8b-cnn-dailymail-calibration", COUNT, pins.CALIBRATION, scored=False
)


def uri(config: Config) -> str:
    return f"{config.r2_base_url.rstrip('/')}/{OFFICIAL.uri_name}.uri"


def examine(path: Path, config: Config, env: Mapping[str, str]) -> dataset.Examined:
    """Read and judge a file: official by its pinned SHA-256, or as MLCommons' own store announces it now."""
    return dataset.examine_as(path, OFFICIAL, lambda: r2.announce(uri(config), env))


def served(source: str, path: Path, examined: dataset.Examined, address: str | None) -> Served:
    """`address`: where the file was fetched from."""
    return Served(
        source=source,
        path=str(path),
        sha256=examined.sha256,
        eligible=examined.eligible,
        reason=f"{path.name}: {examined.reason}" if examined.reason else "",
        rows=examined.rows,
        details={**examined.details, "uri": address, "doubts": list(examined.mismatches)},
    )


@cache
def article_ids() -> tuple[str, ...]:
    """The published ids, in their order; two of them stand there twice."""
    path = Path(__file__).with_name("ids.json")
    ids = read_object(path)["ids"]
    listed = tuple(map(str, ids)) if isinstance(ids, list) else ()
    sha256 = hashlib.sha256("".join(f"{name}\n" for name in listed).encode()).hexdigest()
    if sha256 != pins.CALIBRATION_IDS:
        raise BrokeError(
            f"{path}: expected the published ids (SHA-256 {pins.CALIBRATION_IDS}), found {sha256}"
        )
    return listed
