"""FP8 with fixed scales while loading: the same model as vLLM makes of the FP8 checkpoint of `quantize`."""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_scales import record

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("vllm")

from mlperf_llama.engine import fp8, static_fp8  # noqa: E402
from mlperf_llama.engine.hopper import compat, fused, mlp  # noqa: E402
from mlperf_llama.quantize import weights  # noqa: E402
from mlperf_llama.records import scales as records  # noqa: E402
from mlperf_llama.sources.model import shape  # noqa: E402

pytestmark = pytest.mark.slow

LAYERS, HIDDEN, HEADS, WIDE = 2, 128, 4, 256


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=HIDDEN, intermediate_size=WIDE, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.1,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def scales() -> dict[str, float]:
    draw = random.Random(0)
    drawn = {name: draw.uniform(0.001, 0.1) for name in records.names(LAYERS)}
    # Joined matrices have one input.
    for name in drawn:
        joined = name.replace("k_proj", "q_proj").replace("v_proj", "q_proj").replace("up_proj", "gate_proj")
        drawn[name] = drawn[joined]
    return drawn


@pytest.fixture(scope="module")
def file(scales: dict[str, float], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scales") / "scales.json"
    records.write(replace(record(LAYERS), scales=scales), path)
    return path


@pytest.fixture(scope="module")
def checkpoint(source: Path, scales: dict[str, float]) -> Path:
    """What `quantize` writes."""
    folder = source.parent / "fp8"
    folder.mkdir()
    weights.write(source, folder, scales, lambda text: None)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = shape.FP8_STATIC
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def address() -> str:
    """Where processes of a group can meet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{free.getsockname()[1]}"


def of_rank(rank: int, address: str, results: Any) -> None:
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import parallel_state

    os.environ["VLLM_DIST_IDENT"] = address.rpartition(":")[2]
    with set_current_vllm_config(VllmConfig()):
        parallel_state.init_distributed_environment(2, rank, address, rank, "gloo")
        parallel_state.initialize_model_parallel(2, 1)
    part = torch.tensor([[0.5, -0.25], [-3.0, 1.0]], dtype=torch.bfloat16)[rank : rank + 1]
    results.put((rank, float(static_fp8.largest_of(part, 2)), float(static_fp8.largest_of(part, 1))))


# First in this file: what it forks must not have a group yet.
def test_ranks_scale_their_parts_by_the_whole_matrix() -> None:
    context = torch.multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    place = address()
    ranks = [context.Process(target=of_rank, args=(rank, place, results)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
        assert process.exitcode == 0
    assert sorted(results.get() for _ in ranks) == [(0, 3.0, 0.5), (1, 3.0, 3.0)]


@pytest.fixture(scope="module")
def parallel() -> Iterator[None]:
    """vLLM's groups of processes, with this one alone."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import parallel_state

    with set_current_vllm_config(VllmConfig()):
        parallel_state.init_distributed_environment(1, 0, address(), 0, "gloo")
        parallel_state.initialize_model_parallel(1, 1)
    yield
    parallel_state.destroy_model_parallel()
    parallel_state.destroy_distributed_environment()


def rounded(input: Any, scale: Any, **_: Any) -> tuple[Any, Any]:
    """vLLM's CUDA operation, which its CPU build lacks."""
    return (input.float() * (1 / scale)).clamp(-448, 448).to(fp8.FP8), scale


def loaded(folder: Path, **arguments: Any) -> Any:
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.model_loader import get_model

    config = compat.AsyncEngineArgs(
        model=str(folder), skip_tokenizer_init=True, enforce_eager=True, max_model_len=64,
        max_num_seqs=4, kv_cache_dtype="fp8", **arguments,
    ).create_engine_config()  # fmt: skip
    with set_current_vllm_config(config):
        return get_model(vllm_config=config)


@pytest.fixture(scope="module")
def models(source: Path, checkpoint: Path, file: Path, parallel: None) -> Iterator[tuple[Any, Any]]:
    """(loaded with the file of scales, loaded from the checkpoint)"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compat.custom_ops, "scaled_fp8_quant", rounded)
        patch.setenv(records.VARIABLE, str(file))
        yield loaded(source, quantization=records.QUANTIZATION), loaded(checkpoint)


def test_what_is_loaded_is_the_checkpoint_of_quantize(models: tuple[Any, Any]) -> None:
    made, read = (model.state_dict() for model in models)
    assert made.keys() == read.keys() and len(made) > 16 * LAYERS
    for name, value in read.items():
        assert (made[name].dtype, made[name].stride()) == (value.dtype, value.stride()), name
        assert torch.equal(made[name].float(), value.float()), name


def linears(model: Any) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if isinstance(module, compat.LinearBase)}


def test_cache_and_queries_have_the_scales_of_the_file(
    models: tuple[Any, Any], scales: dict[str, float]
) -> None:
    for number in range(LAYERS):
        for model in models:
            layer = model.model.layers[number].self_attn.attn
            for part in "kvq":
                scale = scales[f"model.layers.{number}.self_attn.{part}_scale"]
                # vLLM keeps them in the model's type before it takes them over.
                assert float(getattr(layer, f"_{part}_scale")) == pytest.approx(scale, rel=2**-8)
                assert getattr(layer, f"_{part}_scale_float") == float(getattr(layer, f"_{part}_scale"))


def test_codes_and_scales_are_those_that_quantize_writes(
    models: tuple[Any, Any], source: Path, scales: dict[str, float]
) -> None:
    tensors = weights.Tensors(source)
    found = linears(models[0])
    assert len(found) == 4 * LAYERS
    for name, layer in found.items():
        block, _, last = name.rpartition(".")
        parts = [f"{block}.{part}" for part in fp8.JOINED.get(last, (last,))]
        scale = weights.weight_scale(tensors, f"{parts[0]}.weight")
        codes = torch.cat([fp8.to_fp8(tensors[f"{part}.weight"], scale).view(torch.uint8) for part in parts])
        assert torch.equal(layer.weight.t().view(torch.uint8), codes)
        assert torch.equal(layer.weight_scale, scale)
        assert torch.equal(layer.input_scale, torch.tensor(scales[f"{parts[0]}.input_scale"]))


def test_the_fast_path_takes_its_layers_as_it_takes_the_checkpoint_s(models: tuple[Any, Any]) -> None:
    torch.manual_seed(1)
    for made, read in zip(*(linears(model).values() for model in models), strict=True):
        x = torch.randn(5, made.input_size, dtype=torch.bfloat16)
        assert mlp.static_fp8(made) and mlp.static_fp8(read)
        for one, other in zip(mlp.operands(made, x), mlp.operands(read, x), strict=True):
            assert one.shape == other.shape and torch.equal(one.float(), other.float())
        assert torch.equal(made.quant_method.apply(made, x), read.quant_method.apply(read, x))


class Layer(torch.nn.Module):  # type: ignore[misc]
    """As vLLM hands one over once its 16-bit weights are there."""

    def __init__(self, weight: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(weight.to(torch.bfloat16), requires_grad=False)
        self.tp_size = 1


class Kernel:
    """The extension's way of ending a layer's load."""

    process_weights_after_loading = staticmethod(fused.reorder_rows)


def method(input_scale: float = 0.5) -> static_fp8.StaticFp8Linear:
    """Without vLLM's own constructor, which wants its whole configuration."""
    found = object.__new__(static_fp8.StaticFp8Linear)
    found.input_scale, found.fp8_linear = input_scale, Kernel
    return found


def test_rows_take_the_order_that_the_fused_kernels_want_once() -> None:
    torch.manual_seed(2)
    layer = Layer(torch.randn(512, 128))
    plain = Layer(layer.weight.clone())
    layer.mlperf_row_order = fused.gate_up_row_order
    for _ in range(2):
        method().process_weights_after_loading(layer)
    method().process_weights_after_loading(plain)
    rows = plain.weight.t().view(torch.uint8)
    assert torch.equal(layer.weight.t().view(torch.uint8), rows[fused.gate_up_row_order(512)])


def test_a_matrix_of_zeros_has_a_scale_as_in_a_checkpoint() -> None:
    layer = Layer(torch.zeros(16, 8))
    method().process_weights_after_loading(layer)
    assert float(layer.weight_scale) > 0 and not layer.weight.float().any()


@pytest.mark.parametrize("value", [0.0123, 1.7, 1 / 3, 250.0])
def test_the_largest_value_becomes_the_largest_code(value: float) -> None:
    matrix = torch.tensor([[value, -value / 2], [0.0, -value]], dtype=torch.bfloat16)
    scale = fp8.scale_of(matrix.abs().max())
    assert fp8.to_fp8(matrix, scale).float().tolist() == [[448.0, -224.0], [0.0, -448.0]]
