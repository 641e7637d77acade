"""Run folders against docs/schema/: what in their records is not as the schemas say.

`jsonschema` comes with vLLM, in either lock file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).resolve().parents[2] / "docs/schema"
NAME = re.compile(r"\d{8}T\d{6}Z-")


@cache
def validator(name: str) -> Any:
    """Of one file in docs/schema/."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads((SCHEMAS / name).read_text(encoding="utf-8")))


def records(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Each record that is there: its file, its schema and its text."""
    for schema in sorted(path.name for path in SCHEMAS.glob("*.json")):
        file = folder / ("events.jsonl" if schema == "event.json" else schema)
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            for line in text.splitlines() if file.suffix == ".jsonl" else [text]:
                yield file.name, schema, line


def problems(folder: Path) -> list[str]:
    """Every difference from the schemas, with its place; empty where there is none."""
    return [
        f"{folder / file}: {error.json_path}: {error.message}"
        for file, schema, text in records(folder)
        for error in map(deepest, validator(schema).iter_errors(json.loads(text)))
    ]


def deepest(error: Any) -> Any:
    """Of a value that is of none of several types: what is wrong in it, where its own type is one of them."""
    inner = [part for part in error.context if part.validator != "type"]
    return deepest(inner[0]) if inner else error


def run_folders(root: Path) -> Iterator[Path]:
    """What the package made anywhere below `root`: folders named by time beside their link `latest`,
    with settings in them."""
    for parent, names, _ in os.walk(root):
        if "latest" in names and (Path(parent) / "latest").is_symlink():
            made = [name for name in names if NAME.match(name)]
            folders = [Path(parent) / name for name in made]
            yield from (folder for folder in folders if (folder / "config.json").is_file())
            names[:] = [name for name in names if name not in made]
