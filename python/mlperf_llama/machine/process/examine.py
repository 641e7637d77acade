"""The process that hashes the environment's packages, started by `packages.Examination`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ...records import codec
from ...records.source import PACKAGE, other_bytecode
from . import installed, packages


def main(order: str) -> None:
    told = json.loads(order)
    own = [Path(folder) for folder in told["own"]]
    examined = [
        packages.examine(name, file, packages.DISTRIBUTIONS[name], own)
        for name, file in told["files"].items()
    ]
    record, unlocked = installed.examine(Path(told["site"])) if told["site"] else (None, {})
    bytecode = tuple(other_bytecode(PACKAGE)[: packages.MOST])
    print(json.dumps(codec.to_json(packages.Examined(tuple(examined), bytecode, record, unlocked))))


if __name__ == "__main__":
    main(sys.argv[1])
