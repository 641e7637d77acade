"""One finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """`level`: ok, warn or fail; `remedy` says what to do, empty where nothing is needed."""

    name: str
    level: str
    detail: str
    remedy: str = ""
