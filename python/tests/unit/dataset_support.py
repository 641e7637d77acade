"""The benchmark's dataset with few samples, for the tests of its sources."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
from standin_servers import StandIn

from mlperf_llama import config, rules
from mlperf_llama.config import Config
from mlperf_llama.sources.dataset import official

FULL, EDGE = 12, 5
INSTRUCTION = rules.PROMPT_TEMPLATE.replace("{article}", "{input}")
STALL_S = 4.0


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark with 12 and 5 samples, so that the files stay small."""
    for category, count in ((rules.DATACENTER, FULL), (rules.EDGE, EDGE)):
        monkeypatch.setitem(rules.SAMPLE_COUNT, category, count)
        known = dataclasses.replace(official.OFFICIAL[category], rows=count)
        monkeypatch.setitem(official.OFFICIAL, category, known)


def array(count: int = FULL, **changes: object) -> bytes:
    rows = [
        {
            "instruction": {"llama": INSTRUCTION},
            "input": f"a{i}",
            "tok_input": [1, i],
            "output": "o",
            **changes,
        }
        for i in range(count)
    ]
    return json.dumps(rows, indent=4).encode()


def pin(monkeypatch: pytest.MonkeyPatch, content: bytes, category: str = rules.DATACENTER) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    known = dataclasses.replace(official.OFFICIAL[category], sha256=sha256)
    monkeypatch.setitem(official.OFFICIAL, category, known)


def settings(tmp_path: Path, server: StandIn | None = None, **flags: str) -> Config:
    base = {"CACHE_DIR": str(tmp_path / "cache"), "SOURCE_STALL_S": str(STALL_S)}
    # Without a server nobody is asked: this is no publisher's address.
    base["R2_BASE_URL"] = (server.url if server else "http://127.0.0.1:9") + "/metadata"
    return config.load({**base, **flags}, {})
