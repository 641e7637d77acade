"""Static FP8 scales on their way to vLLM: what it is asked for, and what is refused before it loads."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from test_scales import record

from mlperf_llama import config
from mlperf_llama.engine import hopper
from mlperf_llama.engine.checkpoint import check_scales
from mlperf_llama.engine.preset import Preset
from mlperf_llama.engine.settings import ModelFacts, engine_settings
from mlperf_llama.engine.tuned import NONE
from mlperf_llama.engine.vllm import VllmEngine
from mlperf_llama.errors import UsageError
from mlperf_llama.records import scales

LAYERS = 2


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": LAYERS}))
    return folder


def file_of(folder: Path, layers: int = LAYERS) -> Path:
    scales.write(record(layers), folder / "scales.json")
    return folder / "scales.json"


def test_the_model_s_own_file_is_taken(model: Path, tmp_path: Path) -> None:
    check_scales(str(file_of(tmp_path)), model)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (1, "expected a scale model.layers.1.self_attn.q_proj.input_scale, found none"),
        (3, "expected scales of 2 layers, found model.layers.2."),
    ],
)
def test_another_model_s_is_refused_in_a_line(layers: int, message: str, model: Path, tmp_path: Path) -> None:
    path = file_of(tmp_path, layers)
    with pytest.raises(UsageError) as refused:
        check_scales(str(path), model)
    assert message in str(refused.value) and str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"num_hidden_layers": 2, "quantization_config": {"quant_method": "fp8"}}', "16-bit.* found fp8"),
        ("{}", "expected num_hidden_layers"),
    ],
)
def test_a_model_that_takes_no_scales_is_refused(
    text: str, message: str, model: Path, tmp_path: Path
) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        check_scales(str(file_of(tmp_path)), model)


def test_settings_with_a_file() -> None:
    preset = Preset("p", {"quantization": "fp8"}, {"OTHER": "1"})
    made = [
        engine_settings(
            config.load({}, {}), preset, NONE, ModelFacts("/m", 2668),
            on_gpu=True, cpu_threads=1, scales=path,
        )
        for path in (None, Path("/run/scales.json"))
    ]  # fmt: skip
    assert [settings.arguments["quantization"] for settings in made] == ["fp8", scales.QUANTIZATION]
    assert made[0].environment == {"OTHER": "1"}
    assert made[1].environment == {"OTHER": "1", scales.VARIABLE: "/run/scales.json"}


def test_the_fast_path_serves_it() -> None:
    assert hopper.not_served({"quantization": scales.QUANTIZATION}) is None


def start(model: Path, environment: dict[str, str]) -> None:
    arguments = {"model": str(model), "quantization": scales.QUANTIZATION}
    asyncio.run(VllmEngine(arguments, model, environment).start(lambda message: None))


def test_the_engine_refuses_before_it_loads(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the run's own file, whatever another run left in the environment."""
    monkeypatch.setattr(os, "environ", {scales.VARIABLE: str(file_of(tmp_path))})
    absent = tmp_path / "absent.json"
    with pytest.raises(UsageError, match=r"absent\.json: expected a file of scales, found none"):
        start(model, {scales.VARIABLE: str(absent)})


def test_the_engine_wants_a_file(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(UsageError, match=f"expected {scales.VARIABLE} to name a file, found nothing"):
        start(model, {})
