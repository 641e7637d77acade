"""quantization.json, beside the weights: what was done to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ..records import codec
from ..records.files import write_text
from ..records.schema import SCHEMA_VERSION

FORMAT = "E4M3, one scale per weight matrix; output matrix and embedding in 16 bits"


@dataclass(frozen=True)
class Calibration:
    """The data that the fixed scales came from. `file` None: not from one file."""

    samples: int
    file: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Quantization:
    """`activation_scheme`: static with `calibration`, else dynamic. `source_sha256`: by file name."""

    FILE: ClassVar[str] = "quantization.json"
    activation_scheme: str
    source: str
    source_sha256: dict[str, str]
    calibration: Calibration | None
    format: str = FORMAT


def write(record: Quantization, folder: Path) -> None:
    data = {"schema_version": SCHEMA_VERSION, **codec.to_json(record)}
    write_text(folder / Quantization.FILE, json.dumps(data, indent=2) + "\n")
