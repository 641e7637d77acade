"""The file of static FP8 scales: what is refused, and what vLLM is asked for with it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mlperf_llama import config
from mlperf_llama.engine import hopper, scales_file
from mlperf_llama.engine.preset import Preset
from mlperf_llama.engine.settings import ModelFacts, engine_settings
from mlperf_llama.engine.tuned import NONE
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.errors import UsageError

LAYERS = 2
Scales = dict[str, object]
Q, K = "model.layers.0.self_attn.q_scale", "model.layers.0.self_attn.k_scale"
UP = "model.layers.1.mlp.up_proj.input_scale"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": LAYERS}))
    return folder


def file_of(folder: Path, change: Callable[[Scales], object] = lambda scales: None) -> Path:
    scales: Scales = dict.fromkeys(scales_file.names(LAYERS), 0.25)
    change(scales)
    path = folder / "scales.json"
    path.write_text(json.dumps({"scales": scales}))
    return path


def test_a_layer_has_ten_scales() -> None:
    found = list(scales_file.names(LAYERS))
    assert len(set(found)) == len(found) == 10 * LAYERS
    assert {Q, K, UP, "model.layers.0.self_attn.o_proj.input_scale"} < set(found)


def test_a_whole_file_is_taken(model: Path, tmp_path: Path) -> None:
    path = file_of(tmp_path, lambda scales: scales.update({K: 1}))
    scales_file.check(path, model)
    assert scales_file.read(path)[K] == 1.0 and scales_file.read(path)[Q] == 0.25


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda scales: scales.pop(UP), f"expected {UP}, found none"),
        (lambda scales: scales.pop(Q), f"expected {Q}, found none"),
        (lambda scales: scales.update({"model.layers.2.self_attn.k_scale": 1.0}), "found model.layers.2."),
        (lambda scales: scales.update({"lm_head.input_scale": 1.0}), "found lm_head.input_scale, which"),
        (lambda scales: scales.update({K: 0}), f"{K}: expected a positive number, found 0"),
        (lambda scales: scales.update({K: -0.1}), f"{K}: expected a positive number, found -0.1"),
        (lambda scales: scales.update({K: float("nan")}), f"{K}: expected a positive number, found nan"),
        (lambda scales: scales.update({K: float("inf")}), f"{K}: expected a positive number, found inf"),
        (lambda scales: scales.update({K: True}), f"{K}: expected a positive number, found True"),
        (lambda scales: scales.update({K: "0.1"}), f"{K}: expected a positive number, found '0.1'"),
        (lambda scales: scales.update({K: 1e-40}), f"{K}: expected a positive number, found 1e-40"),
        (lambda scales: scales.clear(), "expected `scales`, numbers by name, found {}"),
    ],
)
def test_scales_that_are_not_the_model_s_are_refused_in_a_line(
    change: Callable[[Scales], object], message: str, model: Path, tmp_path: Path
) -> None:
    path = file_of(tmp_path, change)
    with pytest.raises(UsageError) as refused:
        scales_file.check(path, model)
    assert message in str(refused.value) and str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "expected `scales`, numbers by name, found None"),
        ('{"scales": [1]}', "expected `scales`, numbers by name, found [1]"),
        ("[1]", "expected a JSON object, found a list"),
        ("broken", "expected a JSON object, could not read it"),
        (None, "expected a file of FP8 scales, found none"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    text: str | None, message: str, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "scales.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError) as refused:
        scales_file.check(path, model)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"num_hidden_layers": 2, "quantization_config": {"quant_method": "fp8"}}', "found quantised ones"),
        ("{}", "expected num_hidden_layers"),
    ],
)
def test_a_model_that_takes_no_scales_is_refused(
    text: str, message: str, model: Path, tmp_path: Path
) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        scales_file.check(file_of(tmp_path), model)


@pytest.mark.parametrize(
    ("quantization", "taken"),
    [("fp8", scales_file.NAME), ("int8", "int8"), (None, None), (scales_file.NAME, scales_file.NAME)],
)
def test_only_fp8_takes_the_file(quantization: str | None, taken: str | None) -> None:
    given = {"quantization": quantization, "model": "m"}
    arguments, environment = scales_file.with_scales(given, Path("/run/scales.json"))
    assert arguments == {"quantization": taken, "model": "m"} and given["quantization"] == quantization
    assert environment == ({scales_file.VARIABLE: "/run/scales.json"} if quantization == "fp8" else {})


@pytest.mark.parametrize(
    ("flags", "quantized", "expected"),
    [
        ({}, False, scales_file.NAME),
        ({"QUANTIZATION": "fp8"}, False, scales_file.NAME),
        ({"QUANTIZATION": "int8"}, False, "int8"),
        ({}, True, None),
    ],
)
def test_settings_with_a_file(flags: dict[str, str], quantized: bool, expected: str | None) -> None:
    preset = Preset("p", {"quantization": "fp8"}, {"OTHER": "1"})
    made = [
        engine_settings(
            config.load(flags, {}), preset, NONE, ModelFacts("/m", 2668, quantized),
            on_gpu=True, cpu_threads=1, scales=path,
        )
        for path in (None, Path("/run/scales.json"))
    ]  # fmt: skip
    assert scales_file.VARIABLE not in made[0].environment
    assert made[0].arguments.get("quantization") != scales_file.NAME
    assert made[1].arguments.get("quantization") == expected
    assert (scales_file.VARIABLE in made[1].environment) == (expected == scales_file.NAME)
    assert made[1].environment["OTHER"] == "1"


def test_the_fast_path_serves_it() -> None:
    assert hopper.not_served({"quantization": scales_file.NAME}) is None


def start(model: Path, environment: dict[str, str]) -> None:
    arguments = {"model": str(model), "quantization": scales_file.NAME}
    asyncio.run(VllmEngine(arguments, model, environment).start(lambda message: None))


def test_the_engine_refuses_before_it_loads(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the run's own file, whatever another run left in the environment."""
    monkeypatch.setattr(os, "environ", {scales_file.VARIABLE: str(file_of(tmp_path))})
    absent = tmp_path / "absent.json"
    with pytest.raises(UsageError, match=r"absent\.json: expected a file of FP8 scales, found none"):
        start(model, {scales_file.VARIABLE: str(absent)})


def test_the_engine_wants_a_file(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(UsageError, match=f"expected {scales_file.VARIABLE} to name a file of scales"):
        start(model, {})
