"""vLLM's configuration as plain data: whole, without secrets, and whatever it holds."""

from __future__ import annotations

import dataclasses
import enum
import json
from pathlib import Path

from mlperf_llama.engine import resolved


class Mode(enum.Enum):
    FULL = 3


class Model:
    def to_dict(self) -> dict[str, object]:
        return {"num_hidden_layers": 32, "rope": {"factor": 8.0}}


class Awkward:
    def to_dict(self, needed: str) -> dict[str, object]:
        return {needed: 1}


@dataclasses.dataclass
class Inner:
    mode: Mode = Mode.FULL
    sizes: tuple[int, ...] = (1, 2)
    static_forward_context: object = None
    _private: int = 1


@dataclasses.dataclass
class Config:
    model: object
    inner: Inner
    hf_token: str = "hf_secret"
    path: Path = Path("/m")
    limit: float = float("inf")
    function: object = len
    kind: type = Model
    other: object = None


def test_every_field_is_there_in_plain_data() -> None:
    data = resolved.data(Config(Model(), Inner(), other=Awkward()))
    assert json.loads(json.dumps(data)) == data
    assert data["model"] == {"num_hidden_layers": 32, "rope": {"factor": 8.0}}
    assert data["inner"] == {"mode": "FULL", "sizes": [1, 2]}
    assert (data["hf_token"], data["path"], data["limit"]) == ("***", "/m", "inf")
    assert data["kind"] == f"{__name__}.Model"
    assert " at 0x" not in json.dumps(data)


def test_a_circle_ends() -> None:
    config = Config(None, Inner())
    config.other = config
    assert len(json.dumps(resolved.data(config))) < 10_000
