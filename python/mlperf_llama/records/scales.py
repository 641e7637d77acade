"""scales.json: the fixed FP8 scales of a model's inputs, queries and KV cache, and what they were made from.

Made by quantize/, loaded into vLLM by the engine, judged by the verdict: the record stands below all three.
Each scale is the largest absolute value of the calibration prompts over FP8's largest, rounded up to
`SIGNIFICANT_BITS`, so that making them again gives the same value or its neighbour.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ..errors import UsageError
from . import codec
from .files import digest, object_or_empty, read_object, write_text
from .schema import SCHEMA_VERSION

# Who makes the scales and who loads them agree on this word and this variable.
QUANTIZATION = "fp8-scales"
VARIABLE = "MLPERF_LLAMA_SCALES"
SIGNIFICANT_BITS = 8
LARGEST = 448.0  # of E4M3
# By how many steps two makings may differ: with one model of card, with different ones.
SAME_CARD_STEPS, OTHER_CARD_STEPS = 1, 2
# The package's files that decide the values: prompts, forward pass, rounding. Scales of weights are no values
# of this file, so engine/fp8.py is not among them.
CODE = (
    "quantize/calibrate.py",
    "quantize/scales.py",
    "records/scales.py",
    "rules.py",
    "sources/dataset/prepare.py",
    "sources/dataset/rows.py",
)

LINEARS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
# A layer's scales, as an FP8 checkpoint names its tensors.
PARTS = (*(f"{name}.input_scale" for name in LINEARS), *(f"self_attn.{name}_scale" for name in "qkv"))
NAME = re.compile(r"model\.layers\.(0|[1-9]\d*)\.(.+)")


@dataclass(frozen=True)
class Method:
    """How the scales follow from the calibration prompts."""

    name: str
    revision: int


METHOD = Method("largest absolute value over 448, 16-bit weights, one prompt at a time, rounded up", 1)


@dataclass(frozen=True)
class Calibration:
    """The articles. `source`: what served them; `uri` or `revision`: where, and which version of it;
    `sha256`: of the served file."""

    source: str
    sha256: str
    uri: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Scales:
    """`ids_sha256`: of the prompts' token ids in their order; `code_sha256`: of the files that make scales.
    `scales`: by the tensor's name in an FP8 checkpoint."""

    FILE: ClassVar[str] = "scales.json"
    method: Method
    model_sha256: str
    tokenizer_sha256: str
    ids_sha256: str
    ids_count: int
    calibration: Calibration
    code_sha256: str
    torch: str
    device: str
    scales: Mapping[str, float]

    @property
    def layers(self) -> int:
        return len(self.scales) // len(PARTS)


def layers_of(model_dir: Path) -> int:
    """How many layers a model's config.json names."""
    layers = object_or_empty(model_dir / "config.json").get("num_hidden_layers")
    if not isinstance(layers, int):
        raise UsageError(f"{model_dir}/config.json: expected num_hidden_layers, found {layers!r}")
    return layers


def names(layers: int) -> tuple[str, ...]:
    """Every scale of a model of so many layers."""
    return tuple(f"model.layers.{number}.{part}" for number in range(layers) for part in PARTS)


def rounded_up(value: float) -> float:
    """The least number of SIGNIFICANT_BITS that is not below `value`, which is above 0."""
    fraction, exponent = math.frexp(value)
    return math.ldexp(math.ceil(math.ldexp(fraction, SIGNIFICANT_BITS)), exponent - SIGNIFICANT_BITS)


def problem(scales: Mapping[str, object], layers: int | None = None) -> str | None:
    """Why these are not whole; None where they are. `layers`: the model's; None: as many as they name."""
    matches = {name: NAME.fullmatch(name) for name in scales}
    strange = [name for name, match in matches.items() if not match or match[2] not in PARTS]
    if strange:
        return f"expected scales of a Llama model's layers, found {strange[0]}"
    if layers is None:
        layers = 1 + max((int(match[1]) for match in matches.values() if match), default=0)
    expected = names(layers)
    if missing := [name for name in expected if name not in scales]:
        return f"expected a scale {missing[0]}, found none{_more(missing)}"
    if extra := sorted(set(scales) - set(expected)):
        return f"expected scales of {layers} layers, found {extra[0]}{_more(extra)}"
    for name, value in scales.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            return f"{name}: expected a number above 0, found {value}"
    return None


def _more(named: list[str]) -> str:
    """How many there are beyond the one that is named."""
    return f" (and {len(named) - 1} more)" if len(named) > 1 else ""


def read(path: Path, layers: int | None = None) -> Scales:
    """The record; UsageError where it is absent, broken or not whole."""
    if not path.is_file():
        raise UsageError(f"{path}: expected a file of scales, found none")
    data = read_object(path)
    if data.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"{path}: expected schema_version {SCHEMA_VERSION}, found {data.get('schema_version')}"
        )
    scales = data.get("scales")
    if wrong := problem(scales, layers) if isinstance(scales, dict) else "expected an object of scales":
        raise UsageError(f"{path}: {wrong}")
    try:
        record = codec.from_json(Scales, data)
    except ValueError as error:
        raise UsageError(f"{path}: not as this version writes it: {error}") from None
    return replace(record, scales={name: float(value) for name, value in record.scales.items()})


def write(record: Scales, path: Path) -> None:
    data = {"schema_version": SCHEMA_VERSION, **codec.to_json(record)}
    write_text(path, json.dumps(data, indent=2) + "\n")


def code_sha256() -> str:
    """One hash of the files that decide the values."""
    package, total = Path(__file__).resolve().parents[1], hashlib.sha256()
    for name in CODE:
        total.update(f"{name} {digest(package / name)}\n".encode())
    return total.hexdigest()


def ids_sha256(prompts: Sequence[Sequence[int]]) -> str:
    """Of the prompts' token ids, a line a prompt."""
    total = hashlib.sha256()
    for prompt in prompts:
        total.update(" ".join(map(str, prompt)).encode() + b"\n")
    return total.hexdigest()


def steps(value: float, other: float) -> int:
    """How many numbers of SIGNIFICANT_BITS lie from one scale to the other."""

    def position(number: float) -> int:
        fraction, exponent = math.frexp(rounded_up(number))
        half = 1 << (SIGNIFICANT_BITS - 1)
        return exponent * half + int(math.ldexp(fraction, SIGNIFICANT_BITS)) - half

    return abs(position(value) - position(other))


def differences(one: Scales, other: Scales) -> list[str]:
    """Where the values of two makings differ by more than two makings may, in words."""
    most = SAME_CARD_STEPS if one.device == other.device else OTHER_CARD_STEPS
    lines = []
    for name in sorted({*one.scales, *other.scales}):
        if name not in one.scales or name not in other.scales:
            lines.append(f"{name} stands in one of them alone")
        elif (distance := steps(one.scales[name], other.scales[name])) > most:
            lines.append(
                f"{name} {one.scales[name]} and {other.scales[name]}, {distance} steps, at most {most}"
            )
    return lines
