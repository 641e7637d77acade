"""The command that makes a run again: every setting that is not at its default."""

from __future__ import annotations

import json
import shlex

from .. import rules
from ..config import Config
from ..settings import AUTO, TABLE


def again(config: Config, verb: str = "run") -> str:
    """`make run NAME=value ...`, as a shell takes it. Secrets and addresses' passwords are not in it."""
    words = ["make", verb]
    for setting in TABLE:
        value = getattr(config, setting.name.lower())
        if value != setting.read(setting.default):
            every = setting.name == "SCENARIO" and value == rules.CATEGORY_SCENARIOS[config.category]
            words.append(f"{setting.name}={'all' if every else _text(value)}")
    return shlex.join(words)


def _text(value: object) -> str:
    if value is None:
        return AUTO
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        return ",".join(map(str, value)) + ("," if len(value) == 1 and isinstance(value[0], int) else "")
    if isinstance(value, dict):
        return json.dumps(value, separators=(",", ":"))
    return f"{value:.12g}" if isinstance(value, float) else str(value)
