"""docs/schema/: a JSON Schema for each record of the run folder, made from the types.

    python -m mlperf_llama.records.schemas docs/schema

They describe what this version writes. Readers pass over unknown keys, so the schemas allow them.
config.json requires no setting: one that it lacks is at its default.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from ..config import Config
from . import scales, schema
from .codec import json_schema
from .events import FILE as EVENTS
from .files import JsonObject, write_text
from .scales import Scales
from .schema import (
    SCHEMA_VERSION,
    EngineLoads,
    Environment,
    Event,
    Hosts,
    Provenance,
    Results,
    Seal,
    System,
    Verdict,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# File of the run folder -> what it holds; of events.jsonl, what each line holds.
KINDS: Mapping[str, type] = {
    **{
        kind.FILE: kind
        for kind in (
            Config,
            System,
            Hosts,
            Environment,
            Provenance,
            Scales,
            EngineLoads,
            Results,
            Verdict,
            Seal,
        )
    },
    EVENTS: Event,
}


def schema_of(file: str) -> JsonObject:
    """The JSON Schema of one file of KINDS."""
    kind = KINDS[file]
    module = scales if kind is Scales else schema
    parts = cast("dict[str, JsonObject]", json_schema(kind)["$defs"])
    for name, part in parts.items():
        if "description" in part:
            part["description"] = inspect.cleandoc(str(part["description"]))
        if kind is not Config and dataclasses.is_dataclass(of := getattr(module, name)):
            part["required"] = [f.name for f in dataclasses.fields(of) if not f.metadata.get("absent")]
    record = parts.pop(kind.__name__)
    required = [] if kind is Config else cast("list[str]", record["required"])
    if file != EVENTS:
        version = {"schema_version": {"const": SCHEMA_VERSION}}
        record["properties"] = {**version, **cast("JsonObject", record["properties"])}
        record["required"] = ["schema_version", *required]
    record["title"] = f"{file}, a line" if file == EVENTS else file
    return {"$schema": DIALECT, **record, **({"$defs": parts} if parts else {})}


def name_of(file: str) -> str:
    """The file in docs/schema/."""
    return "event.json" if file == EVENTS else file


def write(folder: Path) -> None:
    """Write every schema into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in KINDS:
        text = json.dumps(schema_of(file), indent=2, ensure_ascii=False)
        write_text(folder / name_of(file), text + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
