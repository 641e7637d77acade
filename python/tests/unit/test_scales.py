"""scales.json: what is read, what is refused and in which words, and the rounding."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mlperf_llama.errors import UsageError
from mlperf_llama.records import scales
from mlperf_llama.records.scales import Calibration, Method, Scales

HASH = "0123456789abcdef" * 4


def record(layers: int = 2) -> Scales:
    values = {name: 0.25 + 0.125 * number for number, name in enumerate(scales.names(layers))}
    calibration = Calibration("mlcommons", HASH, uri="https://example.org/calibration.uri")
    return Scales(Method("largest", 1), HASH, HASH, HASH, 1000, calibration, HASH, "2.11.0", "cpu", values)


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / Scales.FILE
    scales.write(record(), path)
    assert scales.read(path, layers=2) == record()
    assert scales.read(path).layers == 2
    assert next(iter(json.loads(path.read_text()))) == "schema_version"


def _without(name: str) -> Callable[[dict[str, object]], None]:
    return lambda values: values.pop(name) and None


def _with(name: str, value: object) -> Callable[[dict[str, object]], None]:
    return lambda values: values.update({name: value})


QUERY = "model.layers.1.self_attn.q_scale"
BROKEN: dict[str, tuple[Callable[[dict[str, object]], None], str]] = {
    "one missing": (_without(QUERY), f"expected a scale {QUERY}, found none"),
    "NaN": (_with(QUERY, math.nan), f"{QUERY}: expected a number above 0, found nan"),
    "infinite": (_with(QUERY, math.inf), f"{QUERY}: expected a number above 0, found inf"),
    "zero": (_with(QUERY, 0), f"{QUERY}: expected a number above 0, found 0"),
    "negative": (_with(QUERY, -1.0), f"{QUERY}: expected a number above 0, found -1.0"),
    "text": (_with(QUERY, "1"), f"{QUERY}: expected a number above 0, found 1"),
    "true": (_with(QUERY, True), f"{QUERY}: expected a number above 0, found True"),
    "unknown": (
        _with("model.layers.1.mlp.down_proj.output_scale", 1.0),
        "expected scales of a Llama model's layers, found model.layers.1.mlp.down_proj.output_scale",
    ),
    "a layer too many": (
        lambda values: values.update(dict.fromkeys(scales.names(3), 1.0)),
        "expected scales of 2 layers, found model.layers.2.mlp.down_proj.input_scale (and 9 more)",
    ),
    "empty": (dict.clear, "expected a scale model.layers.0.self_attn.q_proj.input_scale, found none"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_refused_by_name(case: str, tmp_path: Path) -> None:
    change, words = BROKEN[case]
    path = tmp_path / Scales.FILE
    scales.write(record(), path)
    data = json.loads(path.read_text())
    change(data["scales"])
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError) as caught:
        scales.read(path, layers=2)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_gap_between_layers_is_found_without_the_model(tmp_path: Path) -> None:
    path = tmp_path / Scales.FILE
    scales.write(record(3), path)
    data = json.loads(path.read_text())
    data["scales"] = {name: v for name, v in data["scales"].items() if ".layers.1." not in name}
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError, match=r"expected a scale model\.layers\.1\..*, found none \(and 9 more\)"):
        scales.read(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "expected a file of scales, found none"),
        ("{", "could not read it"),
        ("{}", "expected schema_version 1, found None"),
        ('{"schema_version": 1}', "expected an object of scales"),
        (json.dumps({"schema_version": 1, "scales": dict.fromkeys(scales.names(1), 1.0)}), "method"),
    ],
)
def test_broken_files(text: str | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / Scales.FILE
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=words):
        scales.read(path)


@pytest.mark.parametrize("value", [1e-12, 0.1, 0.5, 1.0, 1.0001, 3.14159, 255.0, 257.0, 1e9])
def test_rounded_up(value: float) -> None:
    up = scales.rounded_up(value)
    assert value <= up < value * (1 + 2.0 ** (1 - scales.SIGNIFICANT_BITS))
    assert scales.rounded_up(up) == up
    fraction, _ = math.frexp(up)
    assert (fraction * 2**scales.SIGNIFICANT_BITS).is_integer()


def test_differences_in_steps() -> None:
    one = record()
    name = scales.names(2)[3]

    def other(steps: int, device: str = "cpu") -> Scales:
        value = one.scales[name]
        for _ in range(steps):
            value = scales.rounded_up(value * (1 + 1e-9))
        return replace(one, device=device, scales={**one.scales, name: value})

    assert scales.differences(one, other(1)) == []
    (line,) = scales.differences(one, other(2))
    assert name in line and "2 steps, at most 1" in line
    assert scales.differences(other(2, "H100"), one) == []
    assert "3 steps, at most 2" in scales.differences(one, other(3, "H100"))[0]
    fewer = replace(one, scales={n: v for n, v in one.scales.items() if n != name})
    assert scales.differences(one, fewer) == [f"{name} stands in one of them alone"]


@pytest.mark.parametrize(
    ("value", "other", "expected"), [(1.0, 1.0, 0), (0.99609375, 1.0, 1), (0.5, 1.0, 128)]
)
def test_steps_go_on_over_a_power_of_two(value: float, other: float, expected: int) -> None:
    assert scales.steps(value, other) == scales.steps(other, value) == expected


def test_what_names_prompts_and_code() -> None:
    assert scales.ids_sha256([[1, 2], [3]]) != scales.ids_sha256([[1], [2, 3]])
    assert scales.ids_sha256([[1, 2], [3]]) != scales.ids_sha256([[1, 2]])
    assert scales.code_sha256() == scales.code_sha256()
    assert all((Path(scales.__file__).parents[1] / name).is_file() for name in scales.CODE)
