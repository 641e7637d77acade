"""An FP8 checkpoint of a tiny Llama: what is written, and how near its products come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlperf_llama.errors import UsageError
from mlperf_llama.records.files import digest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors")

from mlperf_llama.quantize import calibrate, checkpoint, weights  # noqa: E402
from mlperf_llama.quantize.record import Calibration, Quantization  # noqa: E402
from mlperf_llama.records.scales import names  # noqa: E402

pytestmark = pytest.mark.slow

LAYER = "model.layers.1.self_attn."


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


PROMPTS = [[1, 5, 9, 33], [2, 60, 7]]


def made(source: Path, dest: Path, prompts: list[list[int]] | None) -> weights.Tensors:
    calibration = Calibration(len(prompts), "articles.json", "0" * 64) if prompts else None
    checkpoint.write(source, dest, prompts, calibration, lambda text: None)
    return weights.Tensors(dest)


@pytest.mark.parametrize(("prompts", "scheme"), [(None, "dynamic"), (PROMPTS, "static")])
def test_the_record_and_the_config(
    source: Path, tmp_path: Path, prompts: list[list[int]] | None, scheme: str
) -> None:
    tensors = made(source, tmp_path / "fp8", prompts)
    config = json.loads((tmp_path / "fp8" / "config.json").read_text())["quantization_config"]
    record = json.loads((tmp_path / "fp8" / Quantization.FILE).read_text())
    assert config == {"quant_method": "fp8", "activation_scheme": scheme, "ignored_layers": ["lm_head"]}
    calibration = {"samples": 2, "file": "articles.json", "sha256": "0" * 64}
    assert record == {
        "schema_version": 1,
        "format": "E4M3, one scale per weight matrix; output matrix and embedding in 16 bits",
        "activation_scheme": scheme,
        "source": str(source),
        "source_sha256": {"model.safetensors": digest(source / "model.safetensors")},
        "calibration": calibration if prompts else None,
    }
    assert any(name.endswith("input_scale") for name in tensors.names) == (scheme == "static")


def test_matrices_are_near_and_the_rest_is_the_same(source: Path, tmp_path: Path) -> None:
    old, new = weights.Tensors(source), made(source, tmp_path / "fp8", None)
    for name in old.names:
        if not weights.LINEAR.fullmatch(name):
            assert torch.equal(old[name], new[name])
            continue
        assert new[name].dtype == torch.float8_e4m3fn
        back = new[name].float() * new[name + "_scale"]
        # E4M3 keeps four significant bits: half a step is 1/16 of the value.
        assert (back - old[name].float()).norm() / old[name].float().norm() < 0.04


def test_joined_matrices_share_a_scale_that_fits_the_largest(source: Path, tmp_path: Path) -> None:
    old, new = weights.Tensors(source), made(source, tmp_path / "fp8", None)
    scales = [float(new[f"{LAYER}{part}_proj.weight_scale"]) for part in "qkv"]
    highest = max(float(old[f"{LAYER}{part}_proj.weight"].abs().max()) for part in "qkv")
    assert len(set(scales)) == 1
    assert scales[0] == pytest.approx(highest / 448, rel=1e-6)
    assert float(new[f"{LAYER}o_proj.weight_scale"]) != scales[0]


def test_scales_are_the_largest_values_seen(source: Path) -> None:
    scales = calibrate.measure(source, PROMPTS, lambda done, total: None).scales
    model = transformers.LlamaForCausalLM.from_pretrained(source, dtype="auto")
    seen: list[float] = []
    attention = model.model.layers[1].self_attn
    attention.v_proj.register_forward_hook(
        lambda module, inputs, output: seen.append(float(output.abs().max()))
    )
    for prompt in PROMPTS:
        model(torch.tensor([prompt]))
    assert max(seen) / 448 <= scales[f"{LAYER}v_scale"] <= max(seen) / 448 * (1 + 2**-7)
    assert scales[f"{LAYER}q_proj.input_scale"] == scales[f"{LAYER}k_proj.input_scale"]
    assert set(scales) == set(names(2))


def test_no_rotated_key_exceeds_its_scale(source: Path) -> None:
    scales = calibrate.measure(source, PROMPTS, lambda done, total: None).scales
    model = transformers.LlamaForCausalLM.from_pretrained(source, dtype="auto")
    for prompt in PROMPTS:
        cache = model(torch.tensor([prompt]), use_cache=True).past_key_values
        highest = float(cache.layers[1].keys.abs().max())
        assert highest <= scales[f"{LAYER}k_scale"] * 448 * 1.01


def test_no_rotated_query_exceeds_its_scale(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama import modeling_llama

    scales = calibrate.measure(source, PROMPTS, lambda done, total: None).scales
    rotate, highest = modeling_llama.apply_rotary_pos_emb, []

    def watched(*arguments: torch.Tensor, **more: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        query, key = rotate(*arguments, **more)
        highest.append(float(query.abs().max()))
        return query, key

    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", watched)
    model = transformers.LlamaForCausalLM.from_pretrained(source, dtype="auto")
    with torch.inference_mode():
        for prompt in PROMPTS:
            model(torch.tensor([prompt]))
    for layer in (0, 1):
        # Its largest in bfloat16, whose own step is 1/128.
        largest = max(highest[layer::2])
        scale = scales[f"model.layers.{layer}.self_attn.q_scale"] * 448
        assert 0.5 * largest < scale and largest <= scale * 1.01


def test_a_scale_of_nothing_and_of_no_number() -> None:
    assert 0 < calibrate.scale(0.0) < 1e-13
    assert calibrate.scale(448.0) == 1.0
    assert str(calibrate.scale(float("nan"))) == "nan" and str(calibrate.scale(float("inf"))) == "inf"


def test_refusals(source: Path, tmp_path: Path) -> None:
    made(source, tmp_path / "fp8", None)
    with pytest.raises(UsageError, match="new folder"):
        made(source, tmp_path / "fp8", None)
    with pytest.raises(UsageError, match="16-bit"):
        made(tmp_path / "fp8", tmp_path / "twice", None)
    with pytest.raises(UsageError, match=r"config\.json"):
        made(tmp_path / "none", tmp_path / "other", None)
